"""A rollout on Control: orders come from the registry's tags, and what became of them goes back there."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ray_app.control.controller import Controller
from ray_app.control.messages import FUSED, ReplicaReport
from ray_app.control.registry_state import RegistrySnapshot
from ray_app.control.replica_states import FUSED_KINDS, ReplicaStates
from ray_app.control.version_set import HeldBundle, VersionLimits, VersionSet
from ray_app.rollout.rollout_driver import RolloutDriver
from ray_app.rollout.version_stats import TALLIES, VersionStats
from tests.support.version_stats import drawn
from tests.unit.tune.registry.test_rollout_spec import rollout
from tune.registry.rollout_spec import (
    ORDER_TAG,
    ROLLOUT_TAG,
    Rollout,
    RolloutAction,
    RolloutOrder,
    RolloutState,
    parse_rollout,
)
from tune.registry.traffic_rules import TRAFFIC_TAG, TrafficRules, parse_rules

LIMITS = VersionLimits(4, 1.0)


class Place:
    """A registry in memory, a Control that is told of it each second, and one replica that does as it is told."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.champion = "1"
        self.now = 100.0
        self.rng = np.random.default_rng(2)
        self.errors = 0.0
        self.tallies = {"1": VersionStats(), "2": VersionStats()}
        self.held = {"1": "digest1"}
        self.rules = TrafficRules(use_case="card_fraud", champion="1", epoch=1)
        self.fit = True
        self.start()

    def start(self) -> None:
        """Start a Control over, which knows what the application was built with."""
        first = TrafficRules(use_case="card_fraud", champion="1", epoch=1)
        versions = VersionSet({"1": HeldBundle("1", "digest1", b"1")}, ["1"], LIMITS)
        self.control = Controller(f"control-{self.now}", first, versions, ReplicaStates(FUSED_KINDS), self.now)
        self.steering = RolloutDriver(lambda: self.now)
        self.steering.join(self.control)
        self.count = 0

    def second(self) -> None:
        """Let a second pass: traffic, report, directive, registry, tick."""
        self.now += 1
        share = sum(each.weight for each in self.rules.challengers)
        mine = int(self.rng.binomial(400, share / 100))
        self.tallies["2"] += drawn(self.rng, mine, errors=self.errors)
        self.tallies["1"] += drawn(self.rng, 400 - mine)
        self.control.see(RegistrySnapshot(self.champion, dict(self.tags)), self.now)
        for version in self.control.missing():
            if self.fit:
                self.control.fetched(HeldBundle(version, f"digest{version}", version.encode()), self.now)
            else:
                self.control.unfit(version, "its probe rows score otherwise")
        self.control.tick(self.now)
        self.report()
        self.report()
        if (owed := self.control.truth.owed) is not None and self.control.settled:
            self.tags |= owed.tags
            self.champion = owed.champion or self.champion
            self.control.truth.wrote(owed)

    def report(self) -> None:
        """Do what Control says, and report it."""
        directive = self.control.directive()
        if directive is not None:
            self.held = dict(directive.wanted)
            self.rules = max(directive.rules, self.rules, key=lambda rules: rules.epoch)
        self.count += 1
        seq = directive.seq if directive else -1
        extras = {TALLIES: dict(self.tallies)}
        self.control.hear(
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
        """What version 2 has on the replica."""
        return sum(each.weight for each in self.rules.challengers if each.version == "2")


def quick(**changes) -> Rollout:
    """A rollout with steps of five seconds."""
    return rollout(**{"steps": (10, 50, 100), "hold_s": 5, "min_requests": 50, **changes})


def test_order_to_the_end():
    """Ordered by the tag, a good version gets to 100 %; rules, rollout and status agree."""
    place = Place()
    place.order(RolloutAction.START, quick())
    done = place.until(RolloutState.DONE)
    assert (place.weight, len(done.began)) == (100, 3)
    place.second()
    assert parse_rules(json.loads(place.tags[TRAFFIC_TAG]), "tag").versions == ("1", "2")
    shown = place.control.status(place.now)
    assert shown["rollout"]["state"] == "done"
    assert shown["shadows"] == []
    assert shown["versions_seen"]["2"]["answered"] > 0


def test_bad_version_goes_back():
    """A version that fails is taken out of the rules, and the tag says why."""
    place = Place()
    place.errors = 0.1
    place.order(RolloutAction.START, quick(hold_s=100))
    gone = place.until(RolloutState.ROLLED_BACK)
    place.second()
    place.second()
    assert place.weight == 0
    assert "errors" in gone.reason
    assert place.rollout.settled


def test_control_is_started_over_in_the_middle():
    """Another Control reads tag and rules, and goes on with the step that it finds."""
    place = Place()
    place.order(RolloutAction.START, quick(hold_s=15))
    while place.weight != 50:
        place.second()
    place.second()
    place.second()
    place.start()
    done = place.until(RolloutState.DONE)
    assert any("anew" in event.text for event in done.history)
    assert place.weight == 100


def test_pause_holds_over_a_restart():
    """A pause is in the tag: another Control does not raise the weight."""
    place = Place()
    place.order(RolloutAction.START, quick())
    while place.weight != 10:
        place.second()
    place.order(RolloutAction.PAUSE)
    place.until(RolloutState.PAUSED)
    place.start()
    for _ in range(30):
        place.second()
    assert place.weight == 10
    place.order(RolloutAction.RESUME)
    place.until(RolloutState.DONE)


def test_rollback_takes_one_read():
    """An order to roll back is in force with the next reading of the registry."""
    place = Place()
    place.order(RolloutAction.START, quick())
    while place.weight != 50:
        place.second()
    place.order(RolloutAction.ROLLBACK)
    place.second()
    assert place.weight == 0


def test_rollback_after_a_promotion_moves_the_alias_back():
    """Done and promoted: a rollback makes the earlier champion the champion again, alias and all."""
    place = Place()
    place.order(RolloutAction.START, quick())
    place.until(RolloutState.DONE)
    place.champion = "2"
    for _ in range(3):
        place.second()
    assert place.rules.champion == "2"
    place.order(RolloutAction.ROLLBACK)
    for _ in range(4):
        place.second()
    assert (place.rules.champion, place.champion) == ("1", "1")


def test_unfit_version_ends_it():
    """A version that is refused never has traffic, and the rollout says what is wrong with it."""
    place = Place()
    place.fit = False
    place.order(RolloutAction.START, quick())
    ended = place.until(RolloutState.ABORTED)
    assert place.weight == 0
    assert "probe rows" in ended.reason


def test_second_rollout_is_refused():
    """While one runs, an order for another is answered, not carried out."""
    place = Place()
    place.order(RolloutAction.START, quick(hold_s=60))
    while place.weight != 10:
        place.second()
    place.order(RolloutAction.START, quick(id="ffffffff", version="3"))
    place.second()
    assert (place.rollout.version, place.rollout.state) == ("2", RolloutState.RUNNING)
    assert "abort it first" in place.rollout.answer
    assert any("abort it first" in refusal.reason for refusal in place.control.refusals)


@pytest.mark.parametrize("tag", [ROLLOUT_TAG, ORDER_TAG])
def test_half_written_tag(tag):
    """A tag that is half written is refused with a reason, and nothing else changes."""
    place = Place()
    place.tags[tag] = quick().model_dump_json()[:40]
    for _ in range(5):
        place.second()
    assert place.weight == 0
    assert any(tag in refusal.reason for refusal in place.control.refusals)
    assert place.control.status(place.now)["rollout"] is None


def test_order_without_a_rollout():
    """An order to pause what is not there is noted among the refusals."""
    place = Place()
    place.order(RolloutAction.PAUSE)
    for _ in range(4):
        place.second()
    assert any("there is no rollout" in refusal.reason for refusal in place.control.refusals)
