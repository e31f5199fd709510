"""`rayscore`: every command of the project under one name."""

from __future__ import annotations

from data.cli.command_line import Command, CommandGroup, CommandLine
from data.cli.commands import ONLINE, TABLES
from ray_app.cli.commands import SERVING
from tune.cli.commands import MODELS, SEARCH, TRAFFIC

_EPILOG = """The champion is served by Ray's own command:
  serve run ray_app:graph     gateway, feature fetch and model apart, each autoscaled
  serve run ray_app:fused     the same in one replica, for the lowest latency

`rayscore COMMAND --help` tells of a command. To complete commands and options with the Tab key:
  eval "$(register-python-argcomplete rayscore)"

The use case is RAYSCORE_USE_CASE (default card_fraud) unless --use-case names another.
Work is spread over the Ray cluster that RAY_ADDRESS names, else over the CPUs of this machine.
exit codes: 0 done, 1 refused or problems found, 2 could not run, 130 interrupted; `loadtest` has one more
"""


def _tune(command: Command) -> Command:
    """The search under the name that it has among all commands."""
    return command._replace(name="tune") if command is SEARCH else command


LINE = CommandLine(
    "rayscore",
    "Real-time tabular machine learning on Ray: from Parquet files to live predictions.",
    (TABLES, ONLINE, CommandGroup(MODELS.title, tuple(map(_tune, MODELS.commands))), TRAFFIC, SERVING),
    _EPILOG,
)


def main() -> int:
    """Run what was typed and return the exit code; the console script of pyproject.toml calls this."""
    return LINE.execute()
