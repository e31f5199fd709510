"""A replica's end of Control: it holds what it is told, goes on alone, and never goes back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from data.errors import BundleError, ControlUnavailable
from ray_app.control.messages import MODEL, Directive, ReplicaReport
from ray_app.control.replica_agent import ReplicaAgent
from tests.support.serving import run, until
from tune.registry.traffic_rules import TrafficRules


def rules(champion: str, epoch: int) -> TrafficRules:
    """Rules of one version."""
    return TrafficRules(use_case="card", champion=champion, epoch=epoch)


class Holding:
    """A holder of words."""

    def __init__(self) -> None:
        self.words = {"1": "d1"}
        self.rules = rules("1", 1)
        self.broken: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.loading: list[str] = []

    def held(self) -> dict[str, str]:
        """What there is."""
        return dict(self.words)

    def load(self, version: str, packed: bytes) -> Callable[[], None]:
        """Take the word in."""
        if self.broken is not None:
            raise self.broken
        self.loading.append(version)
        self.gate.wait(60)
        return lambda: self.words.update({version: packed.decode()})

    def drop(self, version: str) -> None:
        """Forget it."""
        if version not in self.rules.versions:
            self.words.pop(version, None)

    def switch(self, given: TrafficRules) -> bool:
        """Take over."""
        if set(given.versions) <= self.words.keys():
            self.rules = given
            return True
        return False


class Said:
    """A line to a Control that says what the test says."""

    def __init__(self) -> None:
        self.reports: list[ReplicaReport] = []
        self.directive: Directive | None = None
        self.changed = asyncio.Event()
        self.gone = False
        self.tell_error: Exception | None = None

    def say(self, directive: Directive | None) -> None:
        """Have this said to whoever asks."""
        self.directive = directive
        self.changed.set()

    async def changes(self, report: ReplicaReport, known: tuple[str, int]) -> Directive | None:
        """Wait for news."""
        self._hear(report)
        directive = self.directive
        if directive is not None and (directive.control, directive.seq) != known:
            return directive
        self.changed.clear()
        try:
            await asyncio.wait_for(self.changed.wait(), 0.05)
        except asyncio.TimeoutError:
            return None
        return self.directive

    async def tell(self, report: ReplicaReport) -> None:
        """Take note."""
        if self.tell_error is not None:
            raise self.tell_error
        self._hear(report)

    def _hear(self, report: ReplicaReport) -> None:
        if self.gone:
            raise ControlUnavailable("gone")
        self.reports.append(report)

    async def bundle(self, digest: str) -> bytes | None:
        """The word."""
        if self.gone:
            raise ControlUnavailable("gone")
        return digest.encode()


def follow(scenario: Callable[[Holding, Said, ReplicaAgent], object]) -> None:
    """Run a scenario with a follower that has started."""

    async def play() -> None:
        holding, said = Holding(), Said()
        follower = ReplicaAgent("r1", MODEL, "contract", holding, said, {"size": lambda: len(holding.words)})
        await scenario(holding, said, follower)  # pyright: ignore
        await follower.stop()

    run(play())


def test_it_loads_switches_and_drops_as_told():
    """First the version, then the rules that name it, then the old one goes; the reports say so."""

    async def scenario(holding: Holding, said: Said, follower: ReplicaAgent) -> None:
        await follower.start()
        said.say(Directive("c", 1, {"1": "d1", "2": "d2"}, rules("1", 1)))
        await until(lambda: said.reports[-1].held == {"1": "d1", "2": "d2"} and said.reports[-1].seq == 1)
        said.say(Directive("c", 2, {"1": "d1", "2": "d2"}, rules("2", 2)))
        await until(lambda: said.reports[-1].rules.epoch == 2)
        said.say(Directive("c", 3, {"2": "d2"}, rules("2", 2)))
        await until(lambda: said.reports[-1].held == {"2": "d2"})
        assert said.reports[-1].extras == {"size": 1}
        assert [report.count for report in said.reports] == sorted({report.count for report in said.reports})

    follow(scenario)


def test_a_replica_that_starts_holds_what_its_siblings_hold():
    """Before it is ready it has loaded what Control wants, and answers by the rules in force."""

    async def scenario(holding: Holding, said: Said, follower: ReplicaAgent) -> None:
        said.say(Directive("c", 9, {"5": "d5", "6": "d6"}, rules("5", 40)))
        await follower.start()
        assert holding.words.keys() >= {"5", "6"}
        assert holding.rules.epoch == 40
        await until(lambda: said.reports[-1].seq == 9)

    follow(scenario)


def test_without_control_it_starts_and_goes_on_with_what_it_has():
    """A Control that is gone stops nothing; when it is back, it is followed."""

    async def scenario(holding: Holding, said: Said, follower: ReplicaAgent) -> None:
        said.gone = True
        await follower.start()
        assert holding.words == {"1": "d1"}
        said.gone = False
        said.say(Directive("c", 1, {"1": "d1", "2": "d2"}, rules("2", 2)))
        await until(lambda: holding.rules.epoch == 2)

    follow(scenario)


def test_it_never_goes_back_to_older_rules_nor_drops_what_its_own_name():
    """A Control that has just started may know less than its replicas."""

    async def scenario(holding: Holding, said: Said, follower: ReplicaAgent) -> None:
        holding.words, holding.rules = {"1": "d1", "2": "d2"}, rules("2", 8)
        await follower.start()
        said.say(Directive("new", 0, {"1": "d1"}, rules("1", 3)))
        await until(lambda: said.reports[-1].seq == 0)
        assert holding.rules.epoch == 8
        assert "2" in holding.words

    follow(scenario)


@pytest.mark.parametrize("error", [BundleError("damaged"), MemoryError("no memory")], ids=["ours", "theirs"])
def test_what_does_not_load_is_reported(error):
    """A bundle that does not load is refused by its digest, and the replica goes on."""

    async def scenario(holding: Holding, said: Said, follower: ReplicaAgent) -> None:
        holding.broken = error
        await follower.start()
        said.say(Directive("c", 1, {"1": "d1", "2": "d2"}, rules("1", 1)))
        await until(lambda: "d2" in said.reports[-1].refused)
        assert str(error) in said.reports[-1].refused["d2"]
        said.say(Directive("c", 2, {"1": "d1"}, rules("1", 1)))
        await until(lambda: said.reports[-1].refused == {})

    follow(scenario)


def test_a_version_that_is_withdrawn_while_it_loads_is_not_taken_in():
    """A load that ends after its version is wanted no more leaves nothing behind, and the replica goes on."""

    async def scenario(holding: Holding, said: Said, follower: ReplicaAgent) -> None:
        await follower.start()
        holding.gate.clear()
        said.say(Directive("c", 1, {"1": "d1", "2": "d2"}, rules("1", 1)))
        await until(lambda: holding.loading == ["2"])
        said.say(Directive("c", 2, {"1": "d1", "3": "d3"}, rules("1", 1)))
        await until(lambda: said.reports[-1].seq == 2)
        holding.gate.set()
        await until(lambda: "3" in said.reports[-1].held)
        assert holding.words == {"1": "d1", "3": "d3"}

    follow(scenario)


def test_what_a_late_switch_frees_is_dropped():
    """Rules that waited for a load take over with it, and the version that only the old rules named goes at once."""

    async def scenario(holding: Holding, said: Said, follower: ReplicaAgent) -> None:
        await follower.start()
        said.say(Directive("c", 1, {"2": "d2"}, rules("2", 2)))
        await until(lambda: said.reports[-1].rules.epoch == 2)
        assert holding.words == {"2": "d2"}

    follow(scenario)


def test_an_unexpected_error_does_not_end_the_exchange():
    """A report that cannot be made is counted, and Control is followed again as soon as it can be."""

    async def scenario(holding: Holding, said: Said, follower: ReplicaAgent) -> None:
        await follower.start()
        holding.words, words = None, holding.words  # pyright: ignore
        await until(lambda: follower.loop.failures > 0)
        holding.words = words
        said.say(Directive("c", 1, {"1": "d1", "2": "d2"}, rules("2", 2)))
        await until(lambda: holding.rules.epoch == 2)
        follower.loop.check()

    follow(scenario)


def test_a_load_that_ends_unexpectedly_is_counted_and_begun_again():
    """What a load fails with beside the load itself is no silent end: what is missing is loaded after it."""

    async def scenario(holding: Holding, said: Said, follower: ReplicaAgent) -> None:
        said.tell_error = KeyError("a line of its own")
        await follower.start()
        said.say(Directive("c", 1, {"1": "d1", "2": "d2", "3": "d3"}, rules("1", 1)))
        await until(lambda: follower.loop.failures > 0)
        said.tell_error = None
        await until(lambda: said.reports[-1].held == {"1": "d1", "2": "d2", "3": "d3"})

    follow(scenario)


def test_a_replica_starts_though_control_says_what_it_cannot_follow():
    """The first directive fails it: the replica answers by what it was built with, and the failure is counted after."""

    async def scenario(holding: Holding, said: Said, follower: ReplicaAgent) -> None:
        said.say(Directive("c", 1, {"1": "d1"}, None))  # pyright: ignore
        await follower.start()
        await until(lambda: follower.loop.failures > 0)
        assert holding.rules.epoch == 1

    follow(scenario)
