"""What hands do to a rollout: its own orders, and changes of the rules beside it."""

from __future__ import annotations

import pytest

from ray_app.rollout.rollout_controller import obey, with_weight, without
from tests.support.serving.rollout import RULES, World, quick
from tests.support.serving.version_stats import drawn
from tune.registry.rollout_spec import RolloutAction, RolloutOrder, RolloutState
from tune.registry.traffic_rules import Challenger, TrafficRules


def test_pause_and_resume():
    """Paused, the weight stays however long; resumed, the hold goes on where it was."""
    world = World(quick())
    world.until(lambda: world.weight == 5)
    world.order(RolloutAction.PAUSE)
    for _ in range(100):
        world.second()
    assert (world.weight, world.rollout.state) == (5, RolloutState.PAUSED)
    world.order(RolloutAction.RESUME)
    world.until(lambda: world.rollout.state is RolloutState.DONE)


def test_paused_is_still_watched():
    """A paused version that goes wrong is rolled back."""
    world = World(quick())
    world.until(lambda: world.weight == 5)
    world.order(RolloutAction.PAUSE)
    world.version = lambda rng, n: drawn(rng, n, errors=0.2)
    world.until(lambda: world.rollout.state is RolloutState.ROLLED_BACK, 300)


@pytest.mark.parametrize(
    ("action", "state"),
    [(RolloutAction.ABORT, RolloutState.ABORTED), (RolloutAction.ROLLBACK, RolloutState.ROLLED_BACK)],
)
def test_ended_by_hand(action, state):
    """An abort or a rollback takes the traffic from the version at once."""
    world = World(quick())
    world.until(lambda: world.weight == 25)
    world.order(action)
    assert (world.rollout.state, world.weight, world.rules.versions) == (state, 0, ("1",))
    world.order(action)
    assert state.value in world.rollout.answer


def test_rollback_after_the_end_and_after_the_promotion():
    """Done, and promoted even: one order brings the champion back that it was held against."""
    world = World(quick())
    world.until(lambda: world.rollout.state is RolloutState.DONE)
    world.rules = without(with_weight(world.rules, "2", 100), "2", "1").model_copy(update={"champion": "2"})
    world.second()
    world.order(RolloutAction.ROLLBACK)
    assert (world.rules.champion, world.rules.versions) == ("1", ("1",))


def test_two_at_once_are_refused():
    """While one runs, another is not started; after its end it is."""
    world = World(quick())
    world.until(lambda: world.weight == 5)
    other = quick(id="ffffffff", version="3")
    world.order(RolloutAction.START, other)
    assert world.rollout.version == "2"
    assert "abort it first" in world.rollout.answer
    world.order(RolloutAction.ABORT)
    world.order(RolloutAction.START, other)
    assert (world.rollout.version, world.rollout.state) == ("3", RolloutState.RUNNING)


def test_other_hands():
    """A weight that others set pauses the rollout; resumed, it sets its own again."""
    world = World(quick())
    world.until(lambda: world.weight == 5)
    world.second()
    world.rules = with_weight(world.rules, "2", 42)
    world.second()
    assert world.rollout.state is RolloutState.PAUSED
    assert "42 %" in world.rollout.reason
    world.order(RolloutAction.RESUME)
    assert world.weight == 5


def test_taken_out_by_other_hands():
    """Who takes the version out of the rules by hand, by a rollback of the rules say, has ended its rollout."""
    world = World(quick())
    world.until(lambda: world.weight == 5)
    world.second()
    world.rules = RULES
    world.second()
    assert (world.rollout.state, world.weight) == (RolloutState.ABORTED, 0)
    assert "by somebody else" in world.rollout.reason


def test_the_champion_moves():
    """Another champion ends it; the version itself as champion is its end too, a good one."""
    world = World(quick())
    world.until(lambda: world.weight == 5)
    world.rules = world.rules.model_copy(update={"champion": "7"})
    world.second()
    assert (world.rollout.state, world.weight) == (RolloutState.ABORTED, 0)
    world = World(quick())
    world.until(lambda: world.weight == 5)
    world.rules = TrafficRules(use_case="card_fraud", champion="2", epoch=9)
    world.second()
    assert world.rollout.state is RolloutState.DONE


def test_no_room_beside_others():
    """Where other live challengers leave no room for a step, the rollout ends and says so."""
    rules = RULES.model_copy(update={"challengers": (Challenger(version="9", weight=90),)})
    world = World(quick(), rules=rules)
    world.until(lambda: world.rollout.state.over)
    assert world.rollout.state is RolloutState.ABORTED
    assert "90 %" in world.rollout.reason
    assert "9" in world.rules.versions


def test_wrong_starts():
    """A rollout of another use case, or against another champion, ends before it begins."""
    for wrong in (quick(use_case="other"), quick(champion="8")):
        move = obey(None, RolloutOrder(id="00000001", action=RolloutAction.START, rollout=wrong), RULES, 0.0)
        assert move is not None
        assert move.rollout.state is RolloutState.ABORTED
        assert "refused" in move.rollout.reason
    assert obey(None, RolloutOrder(id="00000001", action=RolloutAction.PAUSE), RULES, 0.0) is None
