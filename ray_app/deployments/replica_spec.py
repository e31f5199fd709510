"""The pickled argument that every replica of an application is built from.

It holds the settings, and the bundles as bytes, so that a replica needs neither the registry nor a shared disk.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from data.schema.reason_codes import ReasonCodes
from data.settings import Settings
from ray_app.transport.handshake import Handshake
from tune.registry.bundle import Bundle, BundleManifest
from tune.registry.traffic_rules import TrafficRules


@dataclass(frozen=True)
class ReplicaSpec:
    """Settings, traffic rules and bundles of an application, as they were when it was built.

    `packed` is `Bundle.to_bytes()` of each version that the rules name, `secret` authenticates links, `reasons` are the
    use case's reason codes: None where answers are not explained.
    """

    settings: Settings
    rules: TrafficRules
    packed: dict[str, bytes]
    secret: bytes
    reasons: ReasonCodes | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Without the cached manifest: every replica unpacks its own from `packed`.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def bundles(self) -> dict[str, Bundle]:
        """Unpack the bundles, and return them by version."""
        return {version: Bundle.from_bytes(packed) for version, packed in self.packed.items()}

    @cached_property
    def manifest(self) -> BundleManifest:
        """The manifest of the champion that the application was built with; the others share its contract."""
        return Bundle.from_bytes(self.packed[self.rules.champion]).manifest

    def handshake(self, deployment: str) -> Handshake:
        """The handshake that both ends of a link to `deployment` must agree on."""
        return Handshake(self.secret, deployment, self.manifest.contract)


def make_replica_spec(
    settings: Settings, rules: TrafficRules, bundles: Mapping[str, Bundle], reasons: ReasonCodes | None = None
) -> ReplicaSpec:
    """Make the spec, with a new link secret. `bundles` must have every version that the rules name."""
    packed = {version: bundles[version].to_bytes() for version in rules.versions}
    return ReplicaSpec(settings, rules, packed, secrets.token_bytes(32), reasons)
