"""Finds what to serve at start: the registry's champion, and the challengers of its traffic rules."""

from __future__ import annotations

import json
import time
from typing import NamedTuple

from data.cli.terminal import err
from data.errors import ConfigError, ModelError, ModelNotFound, RegistryUnavailable
from data.schema.reason_codes import ReasonCodes
from data.schema.use_case import load_use_case
from data.settings import Settings
from ray_app.control.state.registry_state import with_champion
from tune.registry.bundle import Bundle
from tune.registry.registry import Registry, ResolvedModel
from tune.registry.traffic_rules import TRAFFIC_TAG, TrafficRules, parse_rules

_RETRY_S = 2.0


class ServedModels(NamedTuple):
    """The rules to start with, the bundles of the versions that they name, and the use case's reason codes."""

    rules: TrafficRules
    bundles: dict[str, Bundle]
    reasons: ReasonCodes | None = None


def find_champion(settings: Settings) -> ResolvedModel:
    """Return the model that the settings name; retries for `registry_wait_s` seconds.

    Raises:
        RegistryUnavailable: the registry did not answer in that time.
        ModelNotFound: it answered, and holds no such model or alias.
    """
    name = load_use_case(settings.use_case).name
    registry = Registry(settings.tracking_uri, settings.artifact_dir)
    deadline = time.monotonic() + settings.registry_wait_s
    warned = False
    while True:
        try:
            return registry.resolve(name, settings.model_alias)
        except (ModelNotFound, RegistryUnavailable) as exc:
            if time.monotonic() + _RETRY_S > deadline:
                waited = f"tried for {settings.registry_wait_s:g} s (RAYSCORE_REGISTRY_WAIT_S)"
                raise type(exc)(f"{exc}; {waited}") from exc
            if not warned:
                err.print(f"waiting for the registry: {exc}", markup=False)
                warned = True
        time.sleep(_RETRY_S)


def find_served(settings: Settings) -> ServedModels:
    """Return the traffic rules and their bundles.

    Where the rules or a challenger cannot serve, it returns the champion alone and prints why on stderr.

    Raises:
        as `find_champion`.
    """
    champion, reasons = find_champion(settings), load_use_case(settings.use_case).explanation
    registry = Registry(settings.tracking_uri, settings.artifact_dir)
    try:
        rules = _rules(registry, champion)
        bundles = {champion.version: champion.bundle}
        for version in rules.versions[1:]:
            bundles[version] = _challenger(registry, champion, version)
    except (ConfigError, ModelError) as exc:
        err.print(f"the champion answers everything, without the traffic rules: {exc}", markup=False, style="yellow")
        alone = TrafficRules(use_case=champion.name, champion=champion.version)
        return ServedModels(alone.after(None), {champion.version: champion.bundle}, reasons)
    return ServedModels(rules, bundles, reasons)


def _rules(registry: Registry, champion: ResolvedModel) -> TrafficRules:
    text = registry.tags(champion.name).get(TRAFFIC_TAG)
    alone = TrafficRules(use_case=champion.name, champion=champion.version)
    if text is None:
        return alone.after(None)
    try:
        rules = parse_rules(json.loads(text), f"tag {TRAFFIC_TAG}")
    except ValueError as exc:
        raise ConfigError(f"tag {TRAFFIC_TAG} is not JSON: {exc}") from exc
    if rules.use_case != champion.name:
        raise ConfigError(f"tag {TRAFFIC_TAG} is of use case '{rules.use_case}'")
    if rules.epoch == 0:
        # Written by `rayscore traffic set` before any rules were in force: no buckets are assigned yet.
        rules = rules.after(None)
    return rules if rules.champion == champion.version else with_champion(rules, champion.version).after(rules)


def _challenger(registry: Registry, champion: ResolvedModel, version: str) -> Bundle:
    bundle = registry.resolve(champion.name, version).bundle
    if different := champion.bundle.manifest.differences(bundle.manifest):
        raise ConfigError(f"version {version} cannot serve beside the champion: {'; '.join(different)}")
    return bundle
