"""Finding the model to serve: the registry's champion, waited for."""

from __future__ import annotations

import time

from data.console import err
from data.errors import ModelNotFound, RegistryUnavailable
from data.settings import Settings
from data.usecase import load_use_case
from tune.registry import Registry, ResolvedModel

_RETRY_S = 2.0


def find_champion(settings: Settings) -> ResolvedModel:
    """Return the model that the settings name, trying for `registry_wait_s` seconds.

    Raises:
        RegistryUnavailable: the registry did not answer in that time.
        ModelNotFound: it answered, and holds no such model or alias.
    """
    name = load_use_case(settings.use_case).name
    registry = Registry(settings.tracking_uri, settings.artifact_dir)
    deadline = time.monotonic() + settings.registry_wait_s
    said = False
    while True:
        try:
            return registry.resolve(name, settings.model_alias)
        except (ModelNotFound, RegistryUnavailable) as exc:
            if time.monotonic() + _RETRY_S > deadline:
                waited = f"tried for {settings.registry_wait_s:g} s (RAYSCORE_REGISTRY_WAIT_S)"
                raise type(exc)(f"{exc}; {waited}") from exc
            if not said:
                err.print(f"waiting for the registry: {exc}", markup=False)
                said = True
        time.sleep(_RETRY_S)
