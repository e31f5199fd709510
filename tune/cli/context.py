"""What a command works with: settings, use case, a console; and MLflow, once it is asked for."""

from __future__ import annotations

import argparse
import importlib
import sys
from functools import cached_property
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from data.schema.use_case import UseCase, load_use_case
from data.settings import Settings, load_settings

if TYPE_CHECKING:
    from tune.registry.model_versions import ModelCatalog
    from tune.registry.registry import Registry


# Tables keep their cells whole in a file or a pipe, whose width is nobody's.
_out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


class CommandContext:
    """Of one command."""

    def __init__(self, settings: Settings, use_case: UseCase, out: Console) -> None:
        self.settings = settings
        self.use_case = use_case
        self.out = out

    @cached_property
    def catalog(self) -> ModelCatalog:
        """Versions, aliases and tags; raises RegistryUnavailable."""
        # MLflow takes a second to load, which a rollback by the admin door does not have.
        return importlib.import_module("tune.registry.model_versions").ModelCatalog(self.settings.tracking_uri)

    @cached_property
    def registry(self) -> Registry:
        """The same with bundles and artifacts; raises RegistryUnavailable."""
        module = importlib.import_module("tune.registry.registry")
        return module.Registry(self.settings.tracking_uri, self.settings.artifact_dir)

    def say(self, text: str) -> None:
        """Print a line."""
        self.out.print(text, markup=False)

    def show(self, table: Table) -> None:
        """Print a table."""
        self.out.print(table)


def open_context(args: argparse.Namespace) -> CommandContext:
    """Return the context for the use case that `--use-case` or the settings name; raises ConfigError."""
    settings = load_settings(use_case=args.use_case)
    return CommandContext(settings, load_use_case(settings.use_case), _out)
