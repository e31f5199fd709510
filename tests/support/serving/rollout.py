"""A simulated rollout: rules, random traffic and a clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from ray_app.rollout.rollout_controller import RolloutController, RolloutDecision, obey
from ray_app.rollout.version_stats import VersionStats
from tests.support.serving.version_stats import drawn
from tune.registry.rollout_spec import Rollout, RolloutAction, RolloutOrder, new_rollout
from tune.registry.traffic_rules import Mode, TrafficRules

RULES = TrafficRules(use_case="card_fraud", champion="1", epoch=1)
Draw = Callable[[np.random.Generator, int], VersionStats]


def good(rng: np.random.Generator, requests: int) -> VersionStats:
    """A second of a version that keeps to its objectives."""
    return drawn(rng, requests, errors=0.0005, slow=0.004)


@dataclass
class World:
    """Rules that are in force at once, `rate` requests a second, and a clock."""

    rollout: Rollout
    rules: TrafficRules = RULES
    version: Draw = good
    champion: Draw = good
    rate: int = 300
    now: float = 1000.0
    seed: int = 5
    controller: RolloutController = field(default_factory=RolloutController)
    whys: list[str] = field(default_factory=list)

    def __post_init__(self):
        """Start without traffic."""
        self.rng = np.random.default_rng(self.seed)
        self.version_stats = {"1": VersionStats(), "2": VersionStats()}
        self.others: dict[str, dict[str, VersionStats]] = {}

    @property
    def weight(self) -> float:
        """The version's share of the entities, in percent."""
        return sum(c.weight for c in self.rules.challengers if c.version == "2" and c.mode is Mode.LIVE)

    def apply(self, decision: RolloutDecision) -> None:
        """Put a decision into force."""
        self.rollout = decision.rollout
        if decision.rules is not None:
            self.rules = decision.rules.after(self.rules)
            self.whys.append(decision.why)

    def second(self, passed: float = 1.0) -> None:
        """Let a second of traffic pass, and the controller look."""
        to_version = int(self.rng.binomial(self.rate, self.weight / 100))
        self.version_stats["2"] += self.version(self.rng, to_version)
        self.version_stats["1"] += self.champion(self.rng, self.rate - to_version)
        self.now += passed
        reports = {"gateway-1": self.version_stats, **self.others}
        self.apply(self.controller.tick(self.rollout, self.rules, reports, self.now, self.now))

    def until(self, condition: Callable[[], bool], seconds: int = 2000) -> int:
        """Let time pass until the condition holds; return the seconds."""
        for second in range(seconds):
            if condition():
                return second
            self.second()
        pytest.fail(f"not within {seconds} s: {self.rollout.reason}; {self.controller.progress(self.rollout)}")

    def order(self, action: RolloutAction, other: Rollout | None = None) -> None:
        """Give an order."""
        order = RolloutOrder(id=f"{len(self.whys):08x}", action=action, rollout=other)
        decision = obey(self.rollout, order, self.rules, self.now)
        assert decision is not None
        self.apply(decision)


def rollout(**changes) -> Rollout:
    """A rollout of version 2 against champion 1."""
    given = {"id": "0123abcd", "use_case": "card_fraud", "version": "2", "champion": "1"}
    return new_rollout(**{**given, **changes})


def quick(**changes) -> Rollout:
    """A rollout with short steps."""
    return rollout(**{"steps": (5, 25, 100), "hold_s": 20, "min_requests": 100, **changes})
