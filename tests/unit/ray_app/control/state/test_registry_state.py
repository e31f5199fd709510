"""Control and the registry: what is followed, what is owed, and what a Control that is started over finds."""

from __future__ import annotations

import json

import pytest

from ray_app.control.rule_change import ChangeConflict, Outcome
from ray_app.control.state.registry_state import PREVIOUS_TAG, TRAFFIC_TAG
from tests.support.serving.control import World, rules
from tune.registry.traffic_rules import BUCKETS


def test_the_alias_is_followed():
    """A promotion in the registry changes the champion; a challenger that becomes champion is none any more."""
    world = World(rules("1", ("2", 20), ("3", 5)))
    world.registry["champion"] = "2"
    world.step(4)
    assert (world.control.rules.champion, world.control.rules.versions) == ("2", ("2", "3"))
    assert world.registry["tags"][PREVIOUS_TAG] == "1"


def test_an_alias_that_moves_to_a_version_that_does_not_serve_is_shown():
    """The old champion goes on, and the alias is left where it was put."""
    world = World()
    world.registry["champion"] = "55"
    world.step(4)
    assert world.control.rules.champion == "1"
    assert "version 55" in world.control.records.refusals[-1].reason
    world.propose(rules("1", ("2", 5)))
    world.step(4)
    assert world.registry["champion"] == "55"


def test_a_tag_is_followed():
    """Rules that are written to the registry are in force soon after."""
    world = World()
    world.tag(rules("1", ("2", 20)).after(rules("1")))
    world.step(4)
    assert world.control.rules.versions == ("1", "2")
    assert world.control.rules.epoch == 2


def test_a_tag_that_claims_no_epoch_is_followed_by_a_control_that_has_just_started():
    """Rules of epoch 0 that were written while Control was away count on from those in force; the same ones do not."""
    world = World()
    world.tag(rules("1", ("2", 20), epoch=0))
    world.control = world.start(rules("1"))
    world.settle()
    assert (world.control.rules.versions, world.control.rules.epoch) == (("1", "2"), 2)
    assert world.control.rules.owners().count("2") == BUCKETS // 5
    world.tag(rules("1", ("2", 20), epoch=0))
    world.control = world.start(rules("1"))
    world.settle()
    assert world.control.rules.epoch == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"use_case": "card", "champ', "is not JSON"),
        ('{"use_case": "card"}', "champion: Field required"),
        (rules("1", epoch=5).model_copy(update={"use_case": "other"}).model_dump_json(), "of use case 'other'"),
        (
            json.dumps(
                {"use_case": "card", "champion": "1", "challengers": [{"version": v, "weight": 60} for v in "23"]}
            ),
            "sum to 120",
        ),
    ],
    ids=["half-written", "incomplete", "other", "sum"],
)
def test_a_tag_that_makes_no_sense_changes_nothing(text, words):
    """It is refused once, with the reason, and the next good one is followed."""
    world = World()
    world.tag(text)
    world.step(3)
    assert world.control.rules == rules("1")
    assert len(world.control.records.refusals) == 1
    assert words in world.control.records.refusals[0].reason
    world.tag(rules("1", ("2", 1), epoch=2))
    world.step(4)
    assert world.control.rules.versions == ("1", "2")


def test_a_tag_for_rules_that_are_no_more_is_put_right():
    """Compare-and-set in the registry: a tag that counts on from an older epoch is refused, and the truth restored."""
    world = World(rules("1", ("2", 20)))
    stale = rules("1", ("2", 99)).after(world.control.rules)
    world.propose(rules("1", ("2", 30)))
    world.step(2)
    world.tag(stale)
    world.step(3)
    assert world.control.rules.challengers[0].weight == 30
    assert "epoch 2 is in force" in world.control.records.refusals[-1].reason
    assert json.loads(world.registry["tags"][TRAFFIC_TAG])["challengers"][0]["weight"] == 30


def test_tag_and_alias_that_are_written_one_after_the_other_are_one_change():
    """The tag may be there before the alias; nobody goes back to the old champion in between."""
    world = World(rules("1", ("2", 100)))
    world.tag(rules("2", epoch=2))
    world.step(2)
    assert world.control.rules.epoch == 1
    world.registry["champion"] = "2"
    world.step(2)
    assert (world.control.rules.champion, world.control.rules.epoch) == ("2", 2)
    assert not world.control.records.refusals


def test_a_tag_with_another_champion_than_the_alias_is_refused_in_the_end():
    """Only a promotion moves the champion."""
    world = World()
    world.tag(rules("2", epoch=2))
    for _ in range(8):
        world.now += 1
        world.step()
    assert world.control.rules.champion == "1"
    assert "the alias stands for 1" in world.control.records.refusals[-1].reason


def test_while_the_registry_is_down_changes_go_on_and_are_written_later():
    """A weight is changed without the registry; it learns of it when it is back."""
    world = World(rules("1", ("2", 20)))
    world.registry["champion"] = "down"
    world.propose(rules("1", ("2", 60)))
    world.step(3)
    status = world.control.status(world.now)
    assert world.control.rules.epoch == 2
    assert status["registry"] == {"problem": "down", "champion": "1", "owed": [TRAFFIC_TAG]}
    world.registry["champion"] = "1"
    world.step(2)
    assert json.loads(world.registry["tags"][TRAFFIC_TAG])["epoch"] == 2
    assert world.control.rules.epoch == 2


def wait(world: World, seconds: int) -> None:
    """Let time pass, with all that goes on in it."""
    for _ in range(seconds):
        world.now += 0.9
        world.step()


@pytest.mark.parametrize("fault", ["down", "no files"])
def test_a_change_whose_bundles_the_registry_does_not_give_is_refused(fault: str):
    """It does not stand in everybody's way for as long as the registry is down: refused, and the next is taken."""
    world = World(rules("1", ("2", 20)))
    world.no_files = fault == "no files"
    world.registry["champion"] = "down" if fault == "down" else "1"
    change = world.propose(rules("1", ("3", 20)))
    wait(world, 15)
    with pytest.raises(ChangeConflict, match="another change is being prepared"):
        world.propose(rules("1", ("4", 20)))
    wait(world, 10)
    assert change.outcome is Outcome.REFUSED
    assert change.reason.startswith("registry unavailable: version 3 was not to be had in 2")
    assert world.control.rules.epoch == 1
    assert not world.propose(rules("1", ("4", 20))).over
    wait(world, 25)
    world.no_files, world.registry["champion"] = False, "1"
    again = world.propose(rules("1", ("4", 20)))
    world.step(3)
    assert again.outcome is Outcome.COMMITTED


def test_what_needs_nothing_of_the_registry_does_not_wait_for_it():
    """A weight of a version that all hold is changed at once, though another change waits for a bundle."""
    world = World(rules("1", ("2", 20)))
    world.no_files = True
    stuck = world.propose(rules("1", ("2", 20), ("3", 5)))
    world.step(2)
    assert world.propose(rules("1", ("2", 50))).outcome is Outcome.COMMITTED
    assert (stuck.outcome, stuck.reason.split(":")[0]) == (Outcome.REFUSED, "registry unavailable")
    world.step(2)
    assert {replica.rules.epoch for replica in world.replicas} == {2}


def test_a_slow_registry_is_waited_for():
    """A bundle that is on its way for half a minute ends no change, and is given up after a whole one."""
    world = World()
    world.slow = True
    change = world.propose(rules("1", ("2", 20)))
    wait(world, 40)
    assert not change.over
    wait(world, 25)
    assert (change.outcome, change.reason.split(":")[0]) == (Outcome.REFUSED, "registry unavailable")
    world.slow = False
    again = world.propose(rules("1", ("2", 20)))
    world.step(3)
    assert again.outcome is Outcome.COMMITTED


def test_a_champion_that_could_not_be_fetched_is_tried_again():
    """The alias was moved while files were out of reach: refused after a while, and taken up when they are back."""
    world = World(rules("1", ("2", 20)))
    world.no_files, world.registry["champion"] = True, "3"
    wait(world, 30)
    assert world.control.pending is None
    assert world.propose(rules("1", ("2", 50))).outcome is Outcome.COMMITTED
    world.no_files = False
    wait(world, 60)
    assert (world.control.rules.champion, world.registry["champion"]) == ("3", "3")
    assert [each.weight for each in world.control.rules.challengers] == [50]


def test_who_promotes_in_the_registry_is_not_overwritten_by_an_older_promotion_here():
    """Promoted here while the registry was down, promoted there before it was written: the later one stays."""
    world = World(rules("1", ("2", 20)))
    world.registry["champion"] = "down"
    world.propose(rules("2"), moves_champion=True)
    world.step(2)
    assert world.control.pending_writes.champion == "2"
    world.registry["champion"] = "3"
    world.control.tick(world.now)
    world.poll()
    assert world.registry["champion"] == "3", "not even for a moment"
    world.step(4)
    assert (world.control.rules.champion, world.registry["champion"]) == ("3", "3")
    assert world.registry["tags"][PREVIOUS_TAG] == "2"


def test_a_control_that_is_started_over_takes_over_what_replicas_answer_by():
    """Committed, not yet written, and Control is killed: the next one finds the rules with the replicas."""
    world = World(rules("1", ("2", 20)))
    world.registry["champion"] = "down"
    world.propose(rules("1", ("2", 60)))
    for replica in world.replicas:
        replica.act()
    world.control = world.start(rules("1", ("2", 20)))
    world.registry["champion"] = "1"
    world.settle()
    assert world.control.rules.challengers[0].weight == 60
    assert {replica.rules.epoch for replica in world.replicas} == {2}
    assert json.loads(world.registry["tags"][TRAFFIC_TAG])["epoch"] == 2


def test_a_control_killed_in_mid_swap_takes_the_change_up_again():
    """A tag was being prepared: the next Control reads it and goes on; nobody was without a version meanwhile."""
    world = World()
    world.tag(rules("1", ("2", 20), epoch=2))
    world.now += 0.1
    world.poll()
    world.replicas[3].act()
    world.control = world.start(rules("1"))
    world.settle()
    assert world.control.rules.versions == ("1", "2")


def test_what_is_asked_for_while_control_is_away_is_taken_up_after():
    """Replicas answer by what an earlier Control committed; a newer tag is not lost to what they say."""
    world = World(rules("1", ("2", 20)))
    world.propose(rules("1", ("2", 60)))
    world.step(2)
    world.control = world.start(rules("1", ("2", 20)))
    world.tag(rules("1", ("2", 100), epoch=3))
    world.settle()
    assert (world.control.rules.challengers[0].weight, world.control.rules.epoch) == (100, 3)


def test_an_older_tag_does_not_undo_what_a_late_replica_answers_by():
    """Control settles before anybody has reported, and reads an older tag: what was committed wins."""
    world = World(rules("1", ("2", 20)))
    world.propose(rules("1", ("2", 40)))
    older = world.control.rules.model_dump_json()
    world.propose(rules("1", ("2", 60)))
    for replica in world.replicas:
        replica.act()
    world.tag(older)
    world.control = world.start(rules("1", ("2", 20)))
    late, world.replicas = world.replicas, []
    world.now += 11
    world.step(2)
    world.replicas = late
    world.step(4)
    assert world.control.rules.challengers[0].weight == 60
    assert json.loads(world.registry["tags"][TRAFFIC_TAG])["challengers"][0]["weight"] == 60


def test_a_control_started_over_says_nothing_before_it_has_listened():
    """What the application was built with may be long past: no directive until replicas had time to report."""
    world = World()
    world.control = world.start(rules("1"))
    assert world.control.directive() is None
    with pytest.raises(ChangeConflict, match="just started"):
        world.propose(rules("1", ("2", 5)))


def test_a_champion_that_was_promoted_here_moves_the_alias():
    """The registry learns of a promotion through the admin API, and of the champion before it."""
    world = World(rules("1", ("2", 20)))
    world.propose(rules("2"), moves_champion=True)
    world.step(2)
    assert world.registry["champion"] == "2"
    assert world.registry["tags"][PREVIOUS_TAG] == "1"
    assert world.control.rules.epoch == 2
