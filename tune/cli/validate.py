"""`rayscore validate`: a table against a use case, and against what a registered version was trained on."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from data.cli.commands import validate
from data.cli.terminal import note
from data.errors import ModelError, ModelNotFound
from data.schema.use_case import UseCase
from data.settings import load_settings
from data.validation.model_coverage import TrainedModel
from tune.cli.context import CommandContext

if TYPE_CHECKING:
    from tune.registry.registry import ResolvedModel

NO_MODEL = "none"
"""What `--against` is to check against no model."""

_SQLITE = "sqlite:///"
_DESCRIPTION = """Check a table against a use case, and against what the model in service was trained on.
Exit code 0: clean, 1: problems found, 2: could not run.

What is new to the model (words, and numbers smaller or larger than all that it was trained on) is told and listed,
and is no problem of the table; a feature that every row lacks although the model was trained with it is one."""
_EXAMPLES = """examples:
  rayscore validate transactions.parquet --report report.html
  rayscore validate today/ --against challenger
  rayscore validate first.parquet --against none
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    validate.add_arguments(parser)
    parser.description, parser.epilog = _DESCRIPTION, _EXAMPLES
    parser.add_argument(
        "--against",
        metavar="ALIAS|VERSION",
        help="registered version to hold the table against, e.g. 3, champion, challenger; 'none' for no model "
        "(default: RAYSCORE_MODEL_ALIAS, champion, where there is one)",
    )


def run(args: argparse.Namespace) -> int:
    """Check the table, print what was found, and return the exit code.

    Raises:
        ConfigError: the use case or the report's name is wrong.
        DataError: the table cannot be read, or lacks a column.
        ModelError: the version that `--against` names is not there, or cannot be read.
    """
    return validate.validate(args, partial(_model, args.against))


def _model(asked: str | None, use_case: UseCase) -> TrainedModel | None:
    """Find the version to hold the table against; one that nobody asked for may be absent, which is noted."""
    if asked == NO_MODEL:
        return None
    settings = load_settings()
    if _no_registry_yet(settings.tracking_uri):
        if asked is None:
            return None
        raise ModelNotFound(
            f"--against {asked}: there is no registry at {settings.tracking_uri} yet; register a model with "
            f"`rayscore tune`, or leave the option out"
        )
    try:
        registry = CommandContext(settings, use_case).registry
        return _trained(registry.resolve(use_case.name, asked or settings.model_alias))
    except ModelError as exc:
        if asked is not None:
            raise
        note(f"held against no model: {exc}")
        return None


def _no_registry_yet(tracking_uri: str) -> bool:
    # Connecting would make the database, and takes the seconds in which MLflow is loaded.
    return tracking_uri.startswith(_SQLITE) and not Path(tracking_uri.removeprefix(_SQLITE)).exists()


def _trained(model: ResolvedModel) -> TrainedModel:
    aliases = f" ({', '.join(model.aliases)})" if model.aliases else ""
    manifest = model.bundle.manifest
    title = f"{model.name} version {model.version}{aliases}"
    return TrainedModel(title, model.version, manifest.schema_.features, manifest.training_profile)
