"""`python -m ray_app`: the commands of the serving side, where `rayscore` is not installed."""

from __future__ import annotations

import sys

from data.cli.command_line import CommandLine
from ray_app.cli.commands import SERVING

_EPILOG = """examples:
  serve run ray_app:graph                     serve the champion: gateway, feature fetch and model apart
  serve run ray_app:fused                     the same in one replica, for the lowest latency
  rayscore demo                               all of it, from generated data to live predictions
  rayscore score in.parquet out.parquet       score a table with the champion
  rayscore loadtest --rps 600                 send requests at a fixed rate and judge the answers
  eval "$(rayscore env)"                      before `ray start`, on every node of a cluster

exit codes: 0 done, 2 could not run, 130 interrupted; `loadtest --help` has two more
"""

LINE = CommandLine(
    "python -m ray_app", "Serve the champion model, score tables with it, or put it under load.", (SERVING,), _EPILOG
)
main = LINE.main


if __name__ == "__main__":
    sys.exit(LINE.execute())
