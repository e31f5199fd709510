"""`rayscore compare`: two runs or versions side by side, with the intervals of their differences."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.table import Table

from data.cli.options import add_use_case
from data.cli.terminal import say, show_table
from data.errors import ConfigError
from tune.cli.context import open_context
from tune.promotion.comparison import compare, figure_rows, parameter_rows
from tune.promotion.comparison_plot import write_comparison


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    for place in ("one", "other"):
        parser.add_argument(place, metavar="RUN|VERSION|ALIAS", help="id of an MLflow run, version or alias")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="write the comparison as a picture too")
    add_use_case(parser)


def run(args: argparse.Namespace) -> int:
    """Compare two runs or versions, print the tables, and return the exit code.

    Raises:
        ConfigError: the name of the picture does not end in .png.
        ModelNotFound: no such run or version.
        RegistryUnavailable: MLflow does not answer.
    """
    context = open_context(args)
    if args.plot and args.plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {args.plot}: the name must end in .png")
    found = compare(context.registry, context.use_case, args.one, args.other)
    names = found.one.name, found.other.name
    for head, rows in (
        (("parameter", *names), parameter_rows(found)),
        (("on the holdout", *names, "paired difference"), figure_rows(found)),
    ):
        table = Table(*head, box=None)
        for row in rows:
            table.add_row(*row)
        show_table(table)
        say("")
    say(f"{names[0]} minus {names[1]} on the same rows" if found.shared else f"no paired difference: {found.reason}")
    if args.plot:
        write_comparison(args.plot, found, context.use_case)
        say(f"{args.plot}: written")
    return 0
