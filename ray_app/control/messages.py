"""What Control and the replicas say to each other: reports up, directives down, over one call that stays open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tune.registry.traffic_rules import TrafficRules

GATEWAY, MODEL, FUSED = "gateway", "model", "fused"
"""Kinds of replicas that hold versions."""
BYSTANDER = "bystander"
"""Kind of replicas that hold none: they only report metrics, and no change waits for them."""


@dataclass(frozen=True)
class ReplicaReport:
    """What a replica reports of itself to Control, at least once a second.

    Args:
        replica: the replica's id in Serve.
        kind: GATEWAY, MODEL, FUSED or BYSTANDER.
        contract: of the models that it holds, as `BundleManifest.contract` has it.
        count: grows with every report; one that was overtaken is dropped.
        seq: number of the last directive that it carried out (what that does not want is dropped); -1 for none.
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
    """What Control directs every replica to do: hold these versions (number to digest), answer by these rules."""

    control: str
    """Id of the Control that gave it; `seq` starts anew with each Control."""
    seq: int
    wanted: dict[str, str]
    rules: TrafficRules
