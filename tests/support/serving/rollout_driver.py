"""A rollout on Control, without an event loop: a registry in memory, one replica, and a clock."""

from __future__ import annotations

import numpy as np
import pytest

from ray_app.control.controller import Controller
from ray_app.control.messages import FUSED, ReplicaReport
from ray_app.control.state.registry_state import RegistrySnapshot
from ray_app.control.state.replica_states import FUSED_KINDS, ReplicaStates
from ray_app.control.state.version_set import PackedBundle, VersionLimits, VersionSet
from ray_app.rollout.rollout_driver import RolloutDriver
from ray_app.rollout.version_stats import VERSION_STATS, VersionStats
from tests.support.serving.rollout import rollout
from tests.support.serving.version_stats import drawn
from tune.registry.rollout_spec import (
    ORDER_TAG,
    ROLLOUT_TAG,
    Rollout,
    RolloutAction,
    RolloutOrder,
    RolloutState,
    parse_rollout,
)
from tune.registry.traffic_rules import TrafficRules

LIMITS = VersionLimits(4, 1.0)


class Place:
    """A registry in memory, a Control that reads it each second, and one replica that follows the directives."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.champion = "1"
        self.now = 100.0
        self.rng = np.random.default_rng(2)
        self.errors = 0.0
        self.version_stats = {"1": VersionStats(), "2": VersionStats()}
        self.held = {"1": "digest1"}
        self.rules = TrafficRules(use_case="card_fraud", champion="1", epoch=1)
        self.fit = True
        self.start()

    def start(self) -> None:
        """Start a new Control, with the rules that the application was built with."""
        first = TrafficRules(use_case="card_fraud", champion="1", epoch=1)
        versions = VersionSet({"1": PackedBundle("1", "digest1", b"1")}, ["1"], LIMITS)
        self.control = Controller(f"control-{self.now}", first, versions, ReplicaStates(FUSED_KINDS), self.now)
        self.rollout_driver = RolloutDriver(lambda: self.now)
        self.rollout_driver.join(self.control)
        self.count = 0

    def second(self) -> None:
        """Let a second pass: traffic, report, directive, registry, tick."""
        self.now += 1
        share = sum(each.weight for each in self.rules.challengers)
        to_version = int(self.rng.binomial(400, share / 100))
        self.version_stats["2"] += drawn(self.rng, to_version, errors=self.errors)
        self.version_stats["1"] += drawn(self.rng, 400 - to_version)
        self.control.on_snapshot(RegistrySnapshot(self.champion, dict(self.tags)), self.now)
        for version in self.control.missing():
            if self.fit:
                self.control.on_bundle(PackedBundle(version, f"digest{version}", version.encode()), self.now)
            else:
                self.control.on_unfit(version, "its probe rows score otherwise")
        self.control.tick(self.now)
        self.report()
        self.report()
        if (writes := self.control.registry_state.pending_writes) is not None and self.control.settled:
            self.tags |= writes.tags
            self.champion = writes.champion or self.champion
            self.control.registry_state.mark_written(writes)

    def report(self) -> None:
        """Follow the directive, and report."""
        directive = self.control.directive()
        if directive is not None:
            self.held = dict(directive.wanted)
            self.rules = max(directive.rules, self.rules, key=lambda rules: rules.epoch)
        self.count += 1
        seq = directive.seq if directive else -1
        extras = {VERSION_STATS: dict(self.version_stats)}
        self.control.on_report(
            ReplicaReport("g1", FUSED, "contract", self.count, seq, dict(self.held), self.rules, extras=extras),
            self.now,
        )

    def order(self, action: RolloutAction, given: Rollout | None = None) -> None:
        """Write an order as the command does."""
        order = RolloutOrder(id=f"{int(self.now):08x}", action=action, rollout=given)
        self.tags[ORDER_TAG] = order.model_dump_json()

    def until(self, state: RolloutState, seconds: int = 300) -> Rollout:
        """Let time pass until the rollout in the tag is in this state."""
        for _ in range(seconds):
            if ROLLOUT_TAG in self.tags and self.rollout.state is state:
                return self.rollout
            self.second()
        pytest.fail(f"not {state.value} after {seconds} s: {self.tags.get(ROLLOUT_TAG)}")

    @property
    def rollout(self) -> Rollout:
        """The rollout in the registry."""
        return parse_rollout(self.tags[ROLLOUT_TAG])

    @property
    def weight(self) -> float:
        """The weight of version 2 by the replica's rules, in percent."""
        return sum(each.weight for each in self.rules.challengers if each.version == "2")


def quick(**changes) -> Rollout:
    """A rollout with steps of five seconds."""
    return rollout(**{"steps": (10, 50, 100), "hold_s": 5, "min_requests": 50, **changes})
