"""What the tune commands work with: settings and use case, and the MLflow registry once it is needed."""

from __future__ import annotations

import argparse
import importlib
from functools import cached_property
from typing import TYPE_CHECKING

from data.schema.use_case import UseCase, load_use_case
from data.settings import Settings, load_settings

if TYPE_CHECKING:
    from tune.registry.model_versions import ModelCatalog
    from tune.registry.registry import Registry


class CommandContext:
    """Settings and use case of one command; connects to the registry on first use."""

    def __init__(self, settings: Settings, use_case: UseCase) -> None:
        self.settings = settings
        self.use_case = use_case

    @cached_property
    def catalog(self) -> ModelCatalog:
        """Versions, aliases and tags of the registry; raises RegistryUnavailable."""
        # Importing MLflow takes a second, which a rollback by the admin APIs does not need to wait for.
        return importlib.import_module("tune.registry.model_versions").ModelCatalog(self.settings.tracking_uri)

    @cached_property
    def registry(self) -> Registry:
        """Bundles and artifacts besides what `catalog` has; raises RegistryUnavailable."""
        module = importlib.import_module("tune.registry.registry")
        return module.Registry(self.settings.tracking_uri, self.settings.artifact_dir)


def open_context(args: argparse.Namespace) -> CommandContext:
    """Return the context for the use case that `--use-case` or the settings name; raises ConfigError."""
    settings = load_settings(use_case=args.use_case)
    return CommandContext(settings, load_use_case(settings.use_case))
