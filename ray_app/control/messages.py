"""What Control and the replicas say to each other: reports up, directives down, over one call that stays open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tune.registry.traffic_rules import TrafficRules

GATEWAY, MODEL, FUSED = "gateway", "model", "fused"
"""Kinds of replicas that hold versions."""
METRICS_ONLY = "bystander"
"""Kind of replicas that hold no versions: they only report metrics. The console's data shows the value, so it stays as
it is."""
EXPLANATION = "explanation"
"""Kind of replicas that hold versions to explain answers by."""
BYSTANDERS = frozenset({METRICS_ONLY, EXPLANATION})
"""Kinds that no change waits for: answers do not depend on them."""


@dataclass(frozen=True)
class ReplicaReport:
    """A replica's report of its state to Control, at least once a second.

    Args:
        replica: the replica's id in Serve.
        kind: GATEWAY, MODEL, FUSED, METRICS_ONLY or EXPLANATION.
        contract: of the models that it holds, as `BundleManifest.contract` has it.
        count: grows with every report; one that arrives after a later one is ignored.
        seq: number of the last directive that it acted on; -1 for none.
        held: digests of the versions that are loaded and warm.
        rules: the traffic rules in force in this replica.
        refused: by digest, why a bundle does not load here.
        extras: further values by name (version statistics, shadow comparisons, metrics pages). They are cumulative:
            a report that is lost loses nothing.
    """

    replica: str
    kind: str
    contract: str
    count: int
    seq: int
    held: dict[str, str]
    rules: TrafficRules
    refused: dict[str, str] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Directive:
    """What every replica is to do: hold the versions `wanted` (number to digest), and answer by `rules`."""

    control: str
    """Id of the Control that gave it; each Control counts `seq` from 0."""
    seq: int
    wanted: dict[str, str]
    rules: TrafficRules
