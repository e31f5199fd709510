"""`rayscore list`: the registered versions of a use case, with their headline figures."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone

from rich.table import Table

from data.cli.options import add_use_case
from data.cli.terminal import say, show_table
from tune.cli.context import open_context
from tune.tasks.kinds import learning_task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_use_case(parser)


def run(args: argparse.Namespace) -> int:
    """List the versions and return the exit code; raises RegistryUnavailable when MLflow does not answer."""
    context = open_context(args)
    versions = context.catalog.list(context.use_case.name)
    if not versions:
        say(f"no version of '{context.use_case.name}' is registered at {context.settings.tracking_uri}")
        return 0
    headline = learning_task(context.use_case).headline
    table = Table("version", "aliases", "made (UTC)", *headline, "run", box=None)
    for each in versions:
        made = datetime.fromtimestamp(each.created_ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M")
        figures = [_short(each.tags.get(name)) for name in headline]
        table.add_row(each.version, ", ".join(each.aliases), made, *figures, each.run_id)
    show_table(table)
    return 0


def _short(figure: str | None) -> str:
    return f"{float(figure):.4f}" if figure else ""
