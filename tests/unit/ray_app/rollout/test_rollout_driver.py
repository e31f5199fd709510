"""A rollout on Control: orders come from the registry's tags, and what became of them goes back there."""

from __future__ import annotations

import json

import pytest

from tests.support.serving.rollout_driver import Place, quick
from tune.registry.rollout_spec import (
    ORDER_TAG,
    ROLLOUT_TAG,
    RolloutAction,
    RolloutState,
)
from tune.registry.traffic_rules import TRAFFIC_TAG, parse_rules


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
    assert any("abort it first" in refusal.reason for refusal in place.control.records.refusals)


@pytest.mark.parametrize("tag", [ROLLOUT_TAG, ORDER_TAG])
def test_half_written_tag(tag):
    """A tag that is half written is refused with a reason, and nothing else changes."""
    place = Place()
    place.tags[tag] = quick().model_dump_json()[:40]
    for _ in range(5):
        place.second()
    assert place.weight == 0
    assert any(tag in refusal.reason for refusal in place.control.records.refusals)
    assert place.control.status(place.now)["rollout"] is None


def test_order_without_a_rollout():
    """An order to pause what is not there is noted among the refusals."""
    place = Place()
    place.order(RolloutAction.PAUSE)
    for _ in range(4):
        place.second()
    assert any("there is no rollout" in refusal.reason for refusal in place.control.records.refusals)
