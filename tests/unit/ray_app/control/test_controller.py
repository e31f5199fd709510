"""Control: prepared by all, then committed; refused with a reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_app.control.messages import GATEWAY, MODEL, ReplicaReport
from ray_app.control.rule_change import ChangeConflict, ChangeRefused, Outcome
from ray_app.control.state.registry_state import TRAFFIC_TAG
from ray_app.control.state.replica_states import GRAPH_KINDS, SILENT_S, ReplicaStates
from tests.support.serving.control import ADMIN, GRACE_S, Replica, World, packed_bundle, rules
from tune.registry.traffic_rules import TrafficRules


def test_a_change_is_committed_when_all_hold_what_it_needs():
    """No gateway hears of the rules before every replica holds the version; then all do, with the next epoch."""
    world = World()
    change = world.propose(rules("1", ("2", 20)))
    world.control.on_bundle(packed_bundle("2"), world.now)
    for replica in world.replicas[:-1]:
        replica.act()
    assert change.outcome is Outcome.PREPARING
    assert {replica.rules.epoch for replica in world.replicas} == {1}

    world.step(2)

    assert (change.outcome, change.epoch) == (Outcome.COMMITTED, 2)
    assert {replica.rules.epoch for replica in world.replicas} == {2}
    assert world.control.rules.challengers[0].buckets
    assert json.loads(world.registry["tags"][TRAFFIC_TAG])["epoch"] == 2
    assert [entry["outcome"] for entry in world.audit] == ["committed"]
    assert world.audit[0]["source"] == "10.0.0.1"


def test_what_is_held_by_all_is_committed_at_once():
    """Another weight for a version that all hold needs no round trip."""
    world = World(rules("1", ("2", 20)))
    assert world.propose(rules("1", ("2", 50))).outcome is Outcome.COMMITTED


def test_the_same_rules_again_change_nothing():
    """Rules that are in force already are no change and no epoch."""
    world = World()
    assert world.propose(rules("1")).epoch == 1
    assert world.control.rules.epoch == 1


@pytest.mark.parametrize(
    ("wanted", "options", "error", "words"),
    [
        (rules("1", ("2", 1)), {"base": 7}, ChangeConflict, "for epoch 7, and epoch 1 is in force"),
        (rules("2"), {}, ChangeRefused, "promote version 2 first"),
        (rules("1", ("2", 1), ("3", 1), ("4", 1), ("5", 1)), {}, ChangeRefused, "name 5 versions, at most 4"),
        (TrafficRules(use_case="other", champion="1"), {}, ChangeRefused, "of use case 'other', 'card' is served"),
    ],
    ids=["epoch", "champion", "many", "use-case"],
)
def test_what_cannot_be_served_is_refused_and_shown(wanted, options, error, words):
    """A refused change leaves everything as it was; status and audit log have the reason."""
    world = World()
    with pytest.raises(error, match=words):
        world.propose(wanted, **options)
    assert world.control.rules.epoch == 1
    assert words in world.control.status(world.now)["refusals"][-1]["reason"]
    assert world.audit[-1]["outcome"] == "refused"


def test_replacing_a_version_needs_room_for_both():
    """With every place taken the change is refused at once, not after a minute, and says what to do."""
    world = World(rules("1", ("2", 1), ("3", 1), ("4", 1)))
    with pytest.raises(ChangeRefused, match="name 5 versions together, at most 4 are held"):
        world.propose(rules("1", ("2", 1), ("3", 1), ("5", 1)))
    assert world.control.pending is None


def test_of_two_changes_at_once_the_second_is_told():
    """While one change is prepared another is a conflict, but for one that takes its place, as a rollback does."""
    world = World()
    first = world.propose(rules("1", ("2", 20)))
    with pytest.raises(ChangeConflict, match="another change is being prepared"):
        world.propose(rules("1", ("3", 20)))
    world.propose(rules("1", ("3", 30)), instead=True)
    world.step(3)
    assert first.outcome is Outcome.SUPERSEDED
    assert world.control.rules.versions == ("1", "3")


def test_of_two_changes_for_the_same_epoch_one_wins():
    """Compare-and-set: both were thought of for epoch 1; the second finds epoch 2."""
    world = World(rules("1", ("2", 20)))
    world.propose(rules("1", ("2", 30)), base=1)
    with pytest.raises(ChangeConflict, match="epoch 2 is in force"):
        world.propose(rules("1", ("2", 5)), base=1)


def test_a_version_that_is_not_there_is_refused():
    """An unknown version leaves the old serving, and says so."""
    world = World()
    change = world.propose(rules("1", ("77", 5)))
    world.step(2)
    assert (change.outcome, change.reason) == (Outcome.REFUSED, "version 77: is not in the registry")
    assert world.control.pending is None
    assert {replica.rules.epoch for replica in world.replicas} == {1}


def test_a_bundle_that_a_replica_does_not_load_is_refused():
    """One replica that cannot load the version is enough; it is named."""
    world = World()
    world.replicas[3].refused = {"digest2": "no memory"}
    change = world.propose(rules("1", ("2", 5)))
    world.step(3)
    assert change.outcome is Outcome.REFUSED
    assert change.reason == "model replica model2 does not load it: no memory"
    assert "2" not in world.replicas[0].held


def test_a_replica_that_dies_in_mid_swap_is_not_waited_for():
    """A model replica that falls silent holds a change up until it counts as gone, and no longer."""
    world = World()
    dead = world.replicas.pop()
    change = world.propose(rules("1", ("2", 5)))
    world.step(3)
    assert not change.over
    world.now += SILENT_S
    world.step(2)
    assert change.outcome is Outcome.COMMITTED
    world.replicas.append(dead)
    world.step(2)
    assert dead.rules.epoch == 2


def test_without_any_model_replica_nothing_is_committed():
    """When all model replicas are gone a change waits for new ones."""
    world = World()
    world.replicas = world.replicas[:2]
    world.now += SILENT_S + 1
    change = world.propose(rules("1", ("2", 5)))
    world.step(3)
    assert not change.over
    world.replicas.append(Replica(world, "model3", MODEL))
    world.step(3)
    assert change.outcome is Outcome.COMMITTED


def test_a_change_that_a_replica_does_not_prepare_ends():
    """A replica that reports but never loads ends the change after a minute."""
    world = World()
    lazy = world.replicas.pop()
    change = world.propose(rules("1", ("2", 5)))
    for _ in range(70):
        world.now += 1
        lazy.report()
        world.step()
    assert change.outcome is Outcome.REFUSED
    assert "not every replica held" in change.reason


def test_the_old_is_dropped_after_its_grace_and_not_before():
    """A version that no rule names stays as long as the grace, so that going back to it is immediate."""
    world = World(rules("1", ("2", 20)))
    world.propose(rules("1"))
    world.step(2)
    assert "2" in world.replicas[3].held
    world.now += GRACE_S - 2
    world.step()
    assert "2" in world.replicas[3].held
    for _ in range(4):
        world.now += 1
        world.step()
    assert world.replicas[3].held == {"1": "digest1"}


def test_nothing_is_dropped_that_a_gateway_still_answers_by():
    """While one gateway has not taken over the new rules, the models of the old ones stay whatever their grace."""
    world = World(rules("1", ("2", 20)))
    slow = world.replicas.pop(0)
    world.propose(rules("1"))
    for _ in range(30):
        world.now += 1
        slow.report()
        world.step()
    assert "2" in world.replicas[-1].held
    world.replicas.insert(0, slow)
    world.step(2)
    assert world.replicas[-1].held == {"1": "digest1"}


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), max_size=25))
@settings(max_examples=60, deadline=None)
def test_no_replica_ever_lacks_what_rules_in_force_name_nor_holds_too_many(swaps):
    """Whatever is promoted however fast: what a gateway answers by is held by every model replica, within the bound."""
    world = World(most=3)
    for version, rounds in swaps:
        world.control.propose(rules(str(version)), ADMIN, world.now, moves_champion=True, instead=True)
        for _ in range(rounds):
            world.step()
            models = [replica for replica in world.replicas if replica.kind == MODEL]
            for gateway in world.replicas[:2]:
                assert all(set(gateway.rules.versions) <= model.held.keys() for model in models)
            assert all(len(replica.held) <= 3 for replica in models)
    for _ in range(30):
        world.now += 1
        world.step()
    last = str(swaps[-1][0]) if swaps else "1"
    assert {replica.rules.champion for replica in world.replicas} == {last}
    assert world.registry["champion"] == last
    assert all(set(replica.held) == {last} for replica in world.replicas)


def test_an_overtaken_report_says_nothing():
    """Of two reports the later one counts, whichever arrives last."""
    world = World()
    gateway = world.replicas[0]
    before = ReplicaReport(gateway.name, GATEWAY, "contract", 0, -1, {}, rules("1"))
    world.control.on_report(before, world.now)
    assert world.propose(rules("1", shadow=None)).outcome is Outcome.COMMITTED
    assert world.control.status(world.now)["replicas"][0]["held"] == {"1": "digest1"}


def test_extras_of_replicas_that_are_gone_are_kept():
    """What a replica counted before it died still counts."""
    replicas = ReplicaStates(GRAPH_KINDS)
    for name, number in (("a", 1), ("b", 2)):
        replicas.record(ReplicaReport(name, GATEWAY, "c", 1, 0, {}, rules("1"), extras={"count": number}), 0.0)
    replicas.record(ReplicaReport("b", GATEWAY, "c", 2, 0, {}, rules("1"), extras={"count": 3}), 5.0)
    replicas.sweep(5.0)
    assert replicas.extras("count") == {"a": 1, "b": 3}
    assert replicas.extras("count", gone=False) == {"b": 3}
