"""What Control and the replicas say to each other: reports up, directives down, over one call that stays open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tune.registry.traffic_rules import TrafficRules

GATEWAY, MODEL, FUSED = "gateway", "model", "fused"
"""Kinds of replicas that hold versions."""
BYSTANDER = "bystander"
"""Kind of those that hold none: nobody waits for them, they only tell what they count."""


@dataclass(frozen=True)
class ReplicaReport:
    """What a replica says of itself, at least once a second.

    Args:
        replica: its id in Serve.
        kind: GATEWAY, MODEL, FUSED or BYSTANDER.
        contract: of its models, as `BundleManifest.contract` has it.
        count: grows with every report; one that was overtaken is dropped.
        seq: of the directive that it acts by: what that does not want is gone; -1 for none.
        held: digests of the versions that are loaded and warm.
        rules: the rules in force here.
        refused: by digest, why a bundle does not load here.
        extras: plain values by name, for whoever asked for them (tallies, shadows, metrics): cumulative, so that the
            last one says all.
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
    """What every replica is to do: hold these versions (number -> digest), and answer by these rules."""

    control: str
    """Id of the Control that says it: another one counts anew."""
    seq: int
    wanted: dict[str, str]
    rules: TrafficRules
