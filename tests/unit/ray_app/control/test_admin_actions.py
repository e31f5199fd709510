"""Actions of the admin API: what each asks Control for, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from data.errors import ConfigError
from ray_app.control.admin_actions import AdminActions, begin, rolled_back
from ray_app.control.controller import Controller
from ray_app.control.messages import FUSED, ReplicaReport
from ray_app.control.rule_change import ChangeConflict, ChangeRefused, Outcome, RuleChange
from ray_app.control.state.registry_state import PREVIOUS_TAG
from ray_app.control.state.replica_states import FUSED_KINDS, ReplicaStates
from ray_app.control.state.version_set import PackedBundle, VersionLimits, VersionSet
from tune.registry.traffic_rules import Challenger, Mode, TrafficRules

LIVE = Challenger(version="2", weight=20)
SHADOW = Challenger(version="3", weight=100, mode=Mode.SHADOW)


def rules(*challengers: Challenger, champion: str = "1") -> TrafficRules:
    """Rules of epoch 4."""
    return TrafficRules(use_case="card", champion=champion, challengers=challengers, epoch=4)


def serving(given: TrafficRules) -> Controller:
    """A Control with one replica that holds every version it may be asked for."""
    held = {version: PackedBundle(version, f"d{version}", b"") for version in "1234"}
    control = Controller("c", given, VersionSet(held, held, VersionLimits(6, 1000.0)), ReplicaStates(FUSED_KINDS), 0.0)
    digests = {version: each.digest for version, each in held.items()}
    control.on_report(ReplicaReport("r", FUSED, "c", 1, 1000, digests, given), 0.0)
    control.tick(2.0)
    control.on_report(ReplicaReport("r", FUSED, "c", 2, 1000, digests, given), 2.0)
    return control


def act(control: Controller, action: str, **body: Any) -> RuleChange:
    """One action."""
    return begin(control, action, body, "10.0.0.1", 2.0)


def test_a_weight_is_set_and_the_others_stay():
    """One challenger more, another weight, taken out again."""
    control = serving(rules(SHADOW))
    assert act(control, "weight", version="2", weight=5, why="a look").outcome is Outcome.COMMITTED
    assert [(c.version, c.weight, c.mode) for c in control.rules.challengers] == [
        ("3", 100, Mode.SHADOW),
        ("2", 5, Mode.LIVE),
    ]
    act(control, "weight", version="2", weight=None)
    assert control.rules.versions == ("1", "3")
    assert control.rules.epoch == 6


def test_rules_may_leave_out_what_is_known():
    """Champion and use case are those in force; the change names who asked and why."""
    control = serving(rules())
    change = act(control, "rules", rules={"challengers": [{"version": "2", "weight": 7}]}, epoch=4, why="canary")
    assert control.rules.versions == ("1", "2")
    assert (change.origin.who, change.origin.source, change.origin.why) == ("admin", "10.0.0.1", "canary")


def test_a_live_challenger_is_promoted():
    """It becomes champion, and the alias is owed."""
    control = serving(rules(LIVE, SHADOW))
    act(control, "promote", version="2")
    assert control.rules.versions == ("2", "3")
    assert control.registry_state.pending_writes is not None
    assert control.registry_state.pending_writes.champion == "2"
    assert control.registry_state.tags[PREVIOUS_TAG] == "1"


def test_rolling_back_takes_challengers_out_first_and_then_the_champion():
    """Twice the same command: nobody sees the challenger, then the champion before is back; shadows stay."""
    control = serving(rules(LIVE, SHADOW))
    act(control, "rollback")
    assert control.rules.versions == ("1", "3")
    control.registry_state.queue_write({PREVIOUS_TAG: "4"})
    act(control, "rollback")
    assert control.rules.versions == ("4", "3")


def test_a_repeated_request_is_one_change():
    """A rollback that arrives a second time with the same attempt moves no champion; another one does."""
    control = serving(rules(LIVE, SHADOW))
    actions = AdminActions(control)
    first = actions.begin("rollback", {"attempt": "a"}, "10.0.0.1", 2.0)
    control.registry_state.queue_write({PREVIOUS_TAG: "4"})
    assert actions.begin("rollback", {"attempt": "a"}, "10.0.0.1", 3.0) is first
    assert control.rules.versions == ("1", "3")
    actions.begin("rollback", {"attempt": "b"}, "10.0.0.1", 4.0)
    assert control.rules.versions == ("4", "3")


def test_with_nothing_to_go_back_to_it_says_so():
    """No challenger and no champion before this one."""
    with pytest.raises(ChangeRefused, match="nothing to go back to"):
        rolled_back(rules(), None)


@pytest.mark.parametrize(
    ("action", "body", "error", "words"),
    [
        ("weight", {"version": "2"}, ConfigError, "weight: weight: Field required"),
        ("weight", {"version": "2", "weight": 101}, ConfigError, "less than or equal to 100"),
        ("weight", {"version": "two", "weight": 1}, ConfigError, "version: String should match"),
        ("weight", {"version": "1", "weight": 1}, ConfigError, "version 1 is named twice"),
        ("weight", {"version": "4", "weight": 90}, ConfigError, "sum to 110"),
        ("weight", {"version": "4", "weight": 1, "epoch": 3}, ChangeConflict, "for epoch 3, and epoch 4"),
        ("rules", {"rules": {"champion": "2"}}, ChangeRefused, "promote version 2 first"),
        ("rules", {"rules": {"use_case": "x"}}, ChangeRefused, "of use case 'x'"),
        ("rules", {}, ConfigError, "rules: rules: Field required"),
        ("promote", {"version": "3"}, ChangeRefused, "only a live challenger"),
        ("rollback", {"verison": "1"}, ConfigError, "verison: Extra inputs"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(action, body, error, words):
    """The text names the key, or what to do first; nothing changes."""
    control = serving(rules(LIVE, SHADOW))
    with pytest.raises(error, match=words):
        act(control, action, **body)
    assert control.rules == rules(LIVE, SHADOW)
