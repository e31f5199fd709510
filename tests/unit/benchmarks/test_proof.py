"""The proof of a changed model: it holds for what was served soundly, and each claim fails for what breaks it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.proof import Rows, answers, effects, in_order, sticky, taken_back, whole
from tune.registry.traffic_rules import Challenger, TrafficRules, bucket

RULES = TrafficRules(use_case="card_fraud", champion="1", epoch=1)
REPORT = {"requests": 300, "errors": 0, "unfinished": 1}


def weighed(before: TrafficRules, weight: float) -> TrafficRules:
    """The next rules, with so many percent for version 2."""
    return before.model_copy(update={"challengers": (Challenger(version="2", weight=weight),)}).after(before)


def change(before: TrafficRules, after: TrafficRules, who: str = "rollout") -> dict[str, Any]:
    """A line of the audit log; each change is at the second that its epoch has for a number."""
    return {
        "at": float(after.epoch),
        "who": who,
        "epoch": after.epoch,
        "rules": after.model_dump(mode="json"),
        "before": before.model_dump(mode="json"),
    }


FEW = weighed(RULES, 20)
MORE = weighed(FEW, 60)
CHANGES = [change(RULES, FEW), change(FEW, MORE)]


@pytest.fixture
def rows() -> Rows:
    """A hundred entities under each of three rules, by two gateways, as the rules have it."""
    entities = [f"user_{number}" for number in range(100)]
    every = [(rules, entity) for rules in (RULES, FEW, MORE) for entity in entities]
    owners = {rules.epoch: rules.owners() for rules in (RULES, FEW, MORE)}
    arrived = np.array([rules.epoch + 0.001 + at % 100 * 0.005 for at, (rules, _) in enumerate(every)])
    return Rows(
        replica=np.array([f"gateway-{at % 2}" for at in range(300)]),
        sequence=np.array([at // 2 + 1 for at in range(300)]),
        arrived=arrived,
        version=np.array([owners[rules.epoch][bucket(entity)] for rules, entity in every]),
        epoch=np.array([rules.epoch for rules, _ in every]),
        entity=np.array([entity for _, entity in every]),
        replayed=np.zeros(300, bool),
    )


def test_what_was_served_soundly_is_proved(rows: Rows):
    """Every claim holds, and entities were followed from one weight to the next."""
    claims = [*answers(REPORT, rows), whole(rows), in_order(rows, CHANGES), *sticky(rows, CHANGES)]
    assert all(claim.holds for claim in claims), claims
    assert claims[-1].found.endswith(", 0")


@pytest.mark.parametrize("report", [{**REPORT, "errors": 1}, {**REPORT, "requests": 310}], ids=["failed", "not logged"])
def test_a_request_that_failed_or_is_not_in_the_log_is_seen(rows: Rows, report: dict[str, int]):
    """One error is a failure, and so is an answer without a row."""
    assert not all(claim.holds for claim in answers(report, rows))


def test_a_lost_row_is_seen(rows: Rows):
    """A gap in a gateway's numbers is a row that is missing."""
    assert not whole(rows.pick(np.arange(300) != 7)).holds


def test_older_rules_after_newer_ones_are_seen(rows: Rows):
    """A gateway that answers by the rules of before again, and rules that were never committed."""
    rows.epoch[250] = 2
    assert not in_order(rows, CHANGES).holds
    rows.epoch[250] = 3
    assert not in_order(rows, CHANGES[:1]).holds


def test_an_entity_that_sees_two_versions_is_seen(rows: Rows):
    """Under the same rules, or taken from the version whose weight rises."""
    at = int(np.flatnonzero((rows.epoch == 2) & (rows.version == "2"))[0])
    rows.version[(rows.epoch == 3) & (rows.entity == rows.entity[at])] = "1"
    assert [claim.holds for claim in sticky(rows, CHANGES)] == [True, False]
    rows.entity[at + 1], rows.version[at + 1] = rows.entity[at], "1"
    assert not sticky(rows, CHANGES)[0].holds


def test_the_champion_must_change_and_change_back():
    """One that never changed, or stayed, is no proof of a rollback."""
    second = TrafficRules(use_case="card_fraud", champion="2", epoch=2)
    there, back = change(RULES, second), change(second, RULES)
    assert taken_back([there, back]).holds
    assert not taken_back([there]).holds


def test_effects_name_the_command_and_how_long_it_took(rows: Rows):
    """A change of a person has the command that asked for it; one of the rollout has none."""
    changes = [change(RULES, FEW, "admin"), change(FEW, MORE)]
    asked, by_itself = effects(rows, changes, [{"name": "20 %", "at": 1.5, "done": 2.25}])
    assert asked == ["champion 1, 2 has 20 %", "2", "20 %", "0.75", "0.50", "0"]
    assert by_itself == ["champion 1, 2 has 60 %", "3", "rollout", "", "", "0"]
