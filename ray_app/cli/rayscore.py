"""`rayscore`: every command of the project under one name."""

from __future__ import annotations

from data.cli import commands as data_commands
from data.cli.command_line import CommandGroup, CommandLine
from ray_app.cli.commands import SERVING
from tune.cli import commands as tune_commands

_EPILOG = """The champion is served by Ray's own command:
  serve run ray_app:graph     gateway, feature fetch and model apart, each autoscaled
  serve run ray_app:fused     the same in one replica, for the lowest latency

`rayscore COMMAND --help` tells of a command. To complete commands and options with the Tab key:
  eval "$(register-python-argcomplete rayscore)"

The use case is RAYSCORE_USE_CASE (default card_fraud) unless --use-case names another.
Work is spread over the Ray cluster that RAY_ADDRESS names, else over the CPUs of this machine.
Ray is started for tables of more than 250,000 rows, and by `tune` once the table is found fit to learn from.
exit codes: 0 done, 1 refused or problems found, 2 could not run, 130 interrupted; `loadtest` has one more
"""


def _tables() -> CommandGroup:
    """The data commands on tables; one that tune has too does more there, as it can see the registry."""
    more = {command.name: command for command in tune_commands.TABLES.commands}
    title, commands = data_commands.TABLES
    return CommandGroup(title, tuple(more.get(command.name, command) for command in commands))


def _models() -> CommandGroup:
    """The tune commands on models, with the search under the name that it has among all commands."""
    search, (title, commands) = tune_commands.SEARCH, tune_commands.MODELS
    return CommandGroup(title, tuple(each._replace(name="tune") if each is search else each for each in commands))


LINE = CommandLine(
    "rayscore",
    "Real-time tabular machine learning on Ray: from Parquet files to live predictions.",
    (_tables(), data_commands.ONLINE, _models(), tune_commands.TRAFFIC, SERVING),
    _EPILOG,
)


def main() -> int:
    """Run what was typed and return the exit code; the console script of pyproject.toml calls this."""
    return LINE.execute()
