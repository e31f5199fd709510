"""`python -m tune`: the tune commands, where `rayscore` is not installed, as in a job of a Ray cluster."""

from __future__ import annotations

import sys

from data.cli.command_line import CommandLine
from tune.cli.commands import MODELS, SEARCH, TABLES, TRAFFIC

_EPILOG = "Without a command: search. Example: python -m tune --data var/train.parquet --trials 20 --promote"

LINE = CommandLine(
    "python -m tune",
    "Check a table, search for a model, look at what is registered, promote, and give traffic.",
    (TABLES, MODELS, TRAFFIC),
    _EPILOG,
    default=SEARCH.name,
)
main = LINE.main


if __name__ == "__main__":
    sys.exit(LINE.execute())
