"""`python -m tune`: search, list, show, compare, promote, skew, rollout, traffic."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Console

from data.cli.terminal import run_cli
from data.schema.use_case import load_use_case
from data.settings import load_settings
from tune.cli.context import CommandContext

# Tables keep their cells whole in a file or a pipe, whose width is nobody's.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


class _Command(NamedTuple):
    """`options`: where the function is that adds a command's arguments and its `run`."""

    options: str
    help: str


_SEARCH = "search"
# Loaded when they are asked for: a rollback must not wait for what a search needs.
_COMMANDS = {
    _SEARCH: _Command("tune.cli.search:add_search", "search, fit and register a challenger (the default command)"),
    "list": _Command("tune.cli.versions:add_list", "list the registered versions"),
    "show": _Command("tune.cli.versions:add_show", "show a version's model card"),
    "compare": _Command("tune.cli.versions:add_compare", "hold two runs or versions side by side"),
    "promote": _Command("tune.cli.promote:add_promote", "make a version the champion if it passes the gates"),
    "skew": _Command("tune.cli.skew:add_skew", "prove that a running service computes what training computed"),
    "rollout": _Command("tune.cli.rollout:add_rollout", "give a version traffic step by step while it does no worse"),
    "traffic": _Command("tune.cli.traffic:add_traffic", "show or set which version answers whom"),
}


def main(argv: Sequence[str]) -> int:
    """Run one command; without the name of one it is `search`."""
    given = list(argv)
    if not given or (given[0] not in _COMMANDS and given[0] not in ("-h", "--help")):
        given.insert(0, _SEARCH)
    args = _parser(given[0]).parse_args(given)
    settings = load_settings(use_case=args.use_case)
    run: Callable[[argparse.Namespace, CommandContext], int] = args.run
    return run(args, CommandContext(settings, load_use_case(settings.use_case), out))


def _parser(asked: str) -> argparse.ArgumentParser:
    """Of all commands, with the options of the one that is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tune",
        description="Search for a model, look at what is registered, promote.",
        epilog="Without a command: search. Example: python -m tune --data var/train.parquet --trials 20 --promote",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in _COMMANDS.items():
        one = commands.add_parser(name, help=command.help, description=command.help)
        if name == asked:
            module, _, function = command.options.partition(":")
            getattr(importlib.import_module(module), function)(one)
            one.add_argument(
                "--use-case",
                metavar="F",
                help="name or file of the use case (default: RAYSCORE_USE_CASE, else card_fraud)",
            )
    return parser


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # `ray job stop` sends SIGTERM: it must end the MLflow run as Ctrl-C does.
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run_cli(main, sys.argv[1:]))
