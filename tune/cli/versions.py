"""`python -m tune list`, `show` and `compare`: what is registered, one version's card, two versions side by side."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from pathlib import Path

from rich.table import Table

from data.errors import ConfigError
from tune.cli.context import CommandContext
from tune.promotion.comparison import compare, figure_rows, parameter_rows
from tune.promotion.comparison_plot import write_comparison

HEADLINE = ("auc", "pr_auc", "f1")
"""Figures that a version is listed with."""


def add_list(parser: argparse.ArgumentParser) -> None:
    """Add what `list` takes."""
    parser.set_defaults(run=_list)


def add_show(parser: argparse.ArgumentParser) -> None:
    """Add what `show` takes."""
    parser.set_defaults(run=_show)
    parser.add_argument("model", metavar="VERSION|ALIAS", help="e.g. 3, champion, challenger")


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Add what `compare` takes."""
    parser.set_defaults(run=_compare)
    for place in ("one", "other"):
        parser.add_argument(place, metavar="RUN|VERSION|ALIAS", help="id of an MLflow run, version or alias")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="write the comparison as a picture too")


def _list(args: argparse.Namespace, desk: CommandContext) -> int:
    versions = desk.catalog.list(desk.use_case.name)
    if not versions:
        desk.say(f"no version of '{desk.use_case.name}' is registered at {desk.settings.tracking_uri}")
        return 0
    table = Table("version", "aliases", "made (UTC)", *HEADLINE, "run", box=None)
    for each in versions:
        made = datetime.fromtimestamp(each.created_ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M")
        figures = [_short(each.tags.get(name)) for name in HEADLINE]
        table.add_row(each.version, ", ".join(each.aliases), made, *figures, each.run_id)
    desk.show(table)
    return 0


def _show(args: argparse.Namespace, desk: CommandContext) -> int:
    model = desk.registry.resolve(desk.use_case.name, args.model)
    manifest = model.bundle.manifest
    aliases = f" ({', '.join(model.aliases)})" if model.aliases else ""
    desk.say(f"{model.name} version {model.version}{aliases}, made {manifest.created_at}, run {model.run_id}")
    desk.say(f"schema {manifest.schema_.fingerprint}, view {manifest.view}, threshold {manifest.threshold:.4g}")
    desk.say(f"versions: {', '.join(f'{name} {version}' for name, version in manifest.versions.items())}\n")
    desk.say(model.bundle.card)
    return 0


def _compare(args: argparse.Namespace, desk: CommandContext) -> int:
    if args.plot and args.plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {args.plot}: the name must end in .png")
    found = compare(desk.registry, desk.use_case, args.one, args.other)
    names = found.one.name, found.other.name
    for head, rows in (
        (("parameter", *names), parameter_rows(found)),
        (("on the holdout", *names, "paired difference"), figure_rows(found)),
    ):
        table = Table(*head, box=None)
        for row in rows:
            table.add_row(*row)
        desk.show(table)
        desk.say("")
    desk.say(
        f"{names[0]} minus {names[1]} on the same rows" if found.shared else f"no paired difference: {found.reason}"
    )
    if args.plot:
        write_comparison(args.plot, found)
        desk.say(f"{args.plot}: written")
    return 0


def _short(figure: str | None) -> str:
    return f"{float(figure):.4f}" if figure else ""
