"""Control: prepared by all, then committed; refused with a reason; started over without losing what is in force."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.traffic import BUCKETS, Challenger, Mode, TrafficRules
from ray_app.control.change import Change, ChangeConflict, ChangeRefused, Origin, Outcome
from ray_app.control.control import Control
from ray_app.control.replicas import GRAPH_KINDS, SILENT_S, Replicas
from ray_app.control.report import GATEWAY, MODEL, Report
from ray_app.control.truth import PREVIOUS_TAG, TRAFFIC_TAG, Registered
from ray_app.control.versions import Held, Limits, Versions

ADMIN = Origin("admin", "10.0.0.1", "test")
GRACE_S = 10.0


def rules(champion: str = "1", *others: tuple[str, float], epoch: int = 1, shadow: str | None = None) -> TrafficRules:
    """Rules with live challengers, and at most one shadow."""
    challengers = [Challenger(version=version, weight=weight) for version, weight in others]
    if shadow:
        challengers.append(Challenger(version=shadow, weight=100, mode=Mode.SHADOW))
    return TrafficRules(use_case="card", champion=champion, challengers=tuple(challengers), epoch=epoch)


def held(version: str) -> Held:
    """A bundle that is what its version is."""
    return Held(version, f"digest{version}", version.encode())


class Replica:
    """What a replica's Follower does, without a loop: acts on a directive when it is told to."""

    def __init__(self, world: World, name: str, kind: str) -> None:
        self.world, self.name, self.kind = world, name, kind
        self.seq, self.count = -1, 0
        self.held = world.control.versions.digests(world.control.rules.versions)
        self.rules = world.control.rules
        self.refused: dict[str, str] = {}

    def act(self) -> None:
        """Report, and do what the answer says."""
        self.report()
        directive = self.world.control.directive()
        if directive is None:
            return
        if directive.rules.epoch > self.rules.epoch and set(directive.rules.versions) <= self.held.keys():
            self.rules = directive.rules
        self.held = {version: digest for version, digest in directive.wanted.items() if digest not in self.refused} | {
            version: digest for version, digest in self.held.items() if version in self.rules.versions
        }
        self.seq = directive.seq
        self.report()

    def report(self) -> None:
        """Report."""
        self.count += 1
        said = Report(
            self.name, self.kind, "contract", self.count, self.seq, dict(self.held), self.rules, dict(self.refused)
        )
        self.world.control.hear(said, self.world.now)


class World:
    """A Control with two gateways and two model replicas, a registry, and a clock."""

    def __init__(self, first: TrafficRules | None = None, most: int = 4) -> None:
        self.now = 100.0
        self.audit: list[dict[str, Any]] = []
        self.registry: dict[str, Any] = {"champion": (first or rules()).champion, "tags": {}}
        self.there = {str(version): held(str(version)) for version in range(1, 10)}
        self.most = most
        self.control = self.start(first or rules())
        self.replicas = [Replica(self, f"{kind}{i}", kind) for kind in (GATEWAY, MODEL) for i in (1, 2)]
        self.settle()

    def start(self, first: TrafficRules) -> Control:
        """A Control that has just started."""
        versions = Versions({v: self.there[v] for v in first.versions}, first.versions, Limits(self.most, GRACE_S))
        return Control("c", first, versions, Replicas(GRAPH_KINDS), self.now, self.audit.append, lambda: 1.5e9)

    def settle(self) -> None:
        """Let Control have listened to all, and everything be done that follows."""
        self.step()
        self.now += 2
        self.step(4)

    def step(self, times: int = 1) -> None:
        """A round: Control ticks and asks the registry, bundles are fetched, each replica acts."""
        for _ in range(times):
            self.now += 0.1
            self.control.tick(self.now)
            self.poll()
            for version in self.control.missing():
                if version in self.there:
                    self.control.fetched(self.there[version], self.now)
                else:
                    self.control.unfit(version, "is not in the registry")
            for replica in self.replicas:
                replica.act()

    def poll(self) -> None:
        """Read the registry, and write what it is owed."""
        if self.registry["champion"] == "down":
            self.control.truth.problem = "down"
            return
        self.control.see(Registered(self.registry["champion"], dict(self.registry["tags"])), self.now)
        if owed := self.control.owed:
            self.registry["tags"] |= owed.tags
            self.registry["champion"] = owed.champion or self.registry["champion"]
            self.control.truth.wrote(owed)

    def tag(self, wanted: TrafficRules | str) -> None:
        """Have somebody write the rules' tag."""
        self.registry["tags"][TRAFFIC_TAG] = wanted if isinstance(wanted, str) else wanted.model_dump_json()

    def propose(self, wanted: TrafficRules, **options: Any) -> Change:
        """Ask for rules."""
        return self.control.propose(wanted, ADMIN, self.now, **options)


def test_a_change_is_committed_when_all_hold_what_it_needs():
    """No gateway hears of the rules before every replica holds the version; then all do, with the next epoch."""
    world = World()
    change = world.propose(rules("1", ("2", 20)))
    world.control.fetched(held("2"), world.now)
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
    assert "version 55" in world.control.refusals[-1].reason
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
    assert len(world.control.refusals) == 1
    assert words in world.control.refusals[0].reason
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
    assert "epoch 2 is in force" in world.control.refusals[-1].reason
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
    assert not world.control.refusals


def test_a_tag_with_another_champion_than_the_alias_is_refused_in_the_end():
    """Only a promotion moves the champion."""
    world = World()
    world.tag(rules("2", epoch=2))
    for _ in range(8):
        world.now += 1
        world.step()
    assert world.control.rules.champion == "1"
    assert "the alias stands for 1" in world.control.refusals[-1].reason


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
    """The registry learns of a promotion through the admin door, and of the champion before it."""
    world = World(rules("1", ("2", 20)))
    world.propose(rules("2"), moves_champion=True)
    world.step(2)
    assert world.registry["champion"] == "2"
    assert world.registry["tags"][PREVIOUS_TAG] == "1"
    assert world.control.rules.epoch == 2


def test_an_overtaken_report_says_nothing():
    """Of two reports the later one counts, whichever arrives last."""
    world = World()
    gateway = world.replicas[0]
    before = Report(gateway.name, GATEWAY, "contract", 0, -1, {}, rules("1"))
    world.control.hear(before, world.now)
    assert world.propose(rules("1", shadow=None)).outcome is Outcome.COMMITTED
    assert world.control.status(world.now)["replicas"][0]["held"] == {"1": "digest1"}


def test_extras_of_replicas_that_are_gone_are_kept():
    """What a replica counted before it died still counts."""
    replicas = Replicas(GRAPH_KINDS)
    for name, number in (("a", 1), ("b", 2)):
        replicas.hear(Report(name, GATEWAY, "c", 1, 0, {}, rules("1"), extras={"tally": number}), 0.0)
    replicas.hear(Report("b", GATEWAY, "c", 2, 0, {}, rules("1"), extras={"tally": 3}), 5.0)
    replicas.sweep(5.0)
    assert replicas.extras("tally") == {"a": 1, "b": 3}
    assert replicas.extras("tally", gone=False) == {"b": 3}
