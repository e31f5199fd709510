"""`rayscore show`: one version, and its model card."""

from __future__ import annotations

import argparse

from data.cli.options import add_use_case
from data.cli.terminal import say
from tune.cli.context import open_context


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="VERSION|ALIAS", help="e.g. 3, champion, challenger")
    add_use_case(parser)


def run(args: argparse.Namespace) -> int:
    """Show the version and return the exit code.

    Raises:
        ModelNotFound: no such version.
        RegistryUnavailable: MLflow does not answer.
    """
    context = open_context(args)
    model = context.registry.resolve(context.use_case.name, args.model)
    manifest = model.bundle.manifest
    aliases = f" ({', '.join(model.aliases)})" if model.aliases else ""
    say(f"{model.name} version {model.version}{aliases}, made {manifest.created_at}, run {model.run_id}")
    say(f"schema {manifest.schema_.fingerprint}, view {manifest.view}, {manifest.output.words}")
    say(f"versions: {', '.join(f'{name} {version}' for name, version in manifest.versions.items())}\n")
    say(model.bundle.card)
    return 0
