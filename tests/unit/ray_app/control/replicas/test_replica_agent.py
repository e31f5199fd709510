"""A replica's agent: it loads what Control directs, goes on without Control, and never goes back to older rules."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from data.errors import BundleError, ControlUnavailable
from ray_app.control.messages import MODEL, Directive, ReplicaReport
from ray_app.control.replicas.replica_agent import ReplicaAgent
from tests.support.serving.predict_app import run, until
from tune.registry.traffic_rules import TrafficRules


def rules(champion: str, epoch: int) -> TrafficRules:
    """Rules of one version."""
    return TrafficRules(use_case="card", champion=champion, epoch=epoch)


class FakeHolder:
    """A holder whose versions are strings: a loaded one is its digest."""

    def __init__(self) -> None:
        self.digests = {"1": "d1"}
        self.rules = rules("1", 1)
        self.broken: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.loading: list[str] = []

    def held(self) -> dict[str, str]:
        """The loaded digests by version."""
        return dict(self.digests)

    def load(self, version: str, packed: bytes) -> Callable[[], None]:
        """Load a version, once `gate` is open."""
        if self.broken is not None:
            raise self.broken
        self.loading.append(version)
        self.gate.wait(60)
        return lambda: self.digests.update({version: packed.decode()})

    def drop(self, version: str) -> None:
        """Drop a version, unless the rules name it."""
        if version not in self.rules.versions:
            self.digests.pop(version, None)

    def switch(self, given: TrafficRules) -> bool:
        """Take over rules, if all their versions are loaded."""
        if set(given.versions) <= self.digests.keys():
            self.rules = given
            return True
        return False


class FakeControl:
    """A Control whose directives the test sets."""

    def __init__(self) -> None:
        self.reports: list[ReplicaReport] = []
        self.directive: Directive | None = None
        self.changed = asyncio.Event()
        self.gone = False
        self.report_error: Exception | None = None

    def direct(self, directive: Directive | None) -> None:
        """Set the directive that the agent gets next."""
        self.directive = directive
        self.changed.set()

    async def next_directive(self, report: ReplicaReport, known: tuple[str, int]) -> Directive | None:
        """Take a report; return a directive, at once or within 50 ms."""
        self._record(report)
        directive = self.directive
        if directive is not None and (directive.control, directive.seq) != known:
            return directive
        self.changed.clear()
        try:
            await asyncio.wait_for(self.changed.wait(), 0.05)
        except asyncio.TimeoutError:
            return None
        return self.directive

    async def report(self, report: ReplicaReport) -> None:
        """Take a report."""
        if self.report_error is not None:
            raise self.report_error
        self._record(report)

    def _record(self, report: ReplicaReport) -> None:
        if self.gone:
            raise ControlUnavailable("gone")
        self.reports.append(report)

    async def bundle(self, digest: str) -> bytes | None:
        """Return the digest as the bundle."""
        if self.gone:
            raise ControlUnavailable("gone")
        return digest.encode()


def run_with_agent(scenario: Callable[[FakeHolder, FakeControl, ReplicaAgent], object]) -> None:
    """Run a scenario with an agent that has started."""

    async def play() -> None:
        holder, control = FakeHolder(), FakeControl()
        agent = ReplicaAgent("r1", MODEL, "contract", holder, control, {"size": lambda: len(holder.digests)})
        await scenario(holder, control, agent)  # pyright: ignore
        await agent.stop()

    run(play())


def test_it_loads_switches_and_drops_as_told():
    """First the version, then the rules that name it, then the old one goes; the reports say so."""

    async def scenario(holder: FakeHolder, control: FakeControl, agent: ReplicaAgent) -> None:
        await agent.start()
        control.direct(Directive("c", 1, {"1": "d1", "2": "d2"}, rules("1", 1)))
        await until(lambda: control.reports[-1].held == {"1": "d1", "2": "d2"} and control.reports[-1].seq == 1)
        control.direct(Directive("c", 2, {"1": "d1", "2": "d2"}, rules("2", 2)))
        await until(lambda: control.reports[-1].rules.epoch == 2)
        control.direct(Directive("c", 3, {"2": "d2"}, rules("2", 2)))
        await until(lambda: control.reports[-1].held == {"2": "d2"})
        assert control.reports[-1].extras == {"size": 1}
        assert [report.count for report in control.reports] == sorted({report.count for report in control.reports})

    run_with_agent(scenario)


def test_a_replica_that_starts_holds_what_its_siblings_hold():
    """Before it is ready it has loaded what Control wants, and answers by the rules in force."""

    async def scenario(holder: FakeHolder, control: FakeControl, agent: ReplicaAgent) -> None:
        control.direct(Directive("c", 9, {"5": "d5", "6": "d6"}, rules("5", 40)))
        await agent.start()
        assert holder.digests.keys() >= {"5", "6"}
        assert holder.rules.epoch == 40
        await until(lambda: control.reports[-1].seq == 9)

    run_with_agent(scenario)


def test_without_control_it_starts_and_goes_on_with_what_it_has():
    """A Control that is gone stops nothing; when it is back, it is followed."""

    async def scenario(holder: FakeHolder, control: FakeControl, agent: ReplicaAgent) -> None:
        control.gone = True
        await agent.start()
        assert holder.digests == {"1": "d1"}
        control.gone = False
        control.direct(Directive("c", 1, {"1": "d1", "2": "d2"}, rules("2", 2)))
        await until(lambda: holder.rules.epoch == 2)

    run_with_agent(scenario)


def test_it_never_goes_back_to_older_rules_nor_drops_what_its_own_name():
    """A Control that has just started may know less than its replicas."""

    async def scenario(holder: FakeHolder, control: FakeControl, agent: ReplicaAgent) -> None:
        holder.digests, holder.rules = {"1": "d1", "2": "d2"}, rules("2", 8)
        await agent.start()
        control.direct(Directive("new", 0, {"1": "d1"}, rules("1", 3)))
        await until(lambda: control.reports[-1].seq == 0)
        assert holder.rules.epoch == 8
        assert "2" in holder.digests

    run_with_agent(scenario)


@pytest.mark.parametrize("error", [BundleError("damaged"), MemoryError("no memory")], ids=["ours", "theirs"])
def test_what_does_not_load_is_reported(error):
    """A bundle that does not load is refused by its digest, and the replica goes on."""

    async def scenario(holder: FakeHolder, control: FakeControl, agent: ReplicaAgent) -> None:
        holder.broken = error
        await agent.start()
        control.direct(Directive("c", 1, {"1": "d1", "2": "d2"}, rules("1", 1)))
        await until(lambda: "d2" in control.reports[-1].refused)
        assert str(error) in control.reports[-1].refused["d2"]
        control.direct(Directive("c", 2, {"1": "d1"}, rules("1", 1)))
        await until(lambda: control.reports[-1].refused == {})

    run_with_agent(scenario)


def test_a_version_that_is_withdrawn_while_it_loads_is_not_taken_in():
    """A load that ends after its version is wanted no more leaves nothing behind, and the replica goes on."""

    async def scenario(holder: FakeHolder, control: FakeControl, agent: ReplicaAgent) -> None:
        await agent.start()
        holder.gate.clear()
        control.direct(Directive("c", 1, {"1": "d1", "2": "d2"}, rules("1", 1)))
        await until(lambda: holder.loading == ["2"])
        control.direct(Directive("c", 2, {"1": "d1", "3": "d3"}, rules("1", 1)))
        await until(lambda: control.reports[-1].seq == 2)
        holder.gate.set()
        await until(lambda: "3" in control.reports[-1].held)
        assert holder.digests == {"1": "d1", "3": "d3"}

    run_with_agent(scenario)


def test_what_a_late_switch_frees_is_dropped():
    """Rules that waited for a load take over with it, and the version that only the old rules named goes at once."""

    async def scenario(holder: FakeHolder, control: FakeControl, agent: ReplicaAgent) -> None:
        await agent.start()
        control.direct(Directive("c", 1, {"2": "d2"}, rules("2", 2)))
        await until(lambda: control.reports[-1].rules.epoch == 2)
        assert holder.digests == {"2": "d2"}

    run_with_agent(scenario)


def test_an_unexpected_error_does_not_end_the_exchange():
    """A report that cannot be made is counted, and Control is followed again as soon as it can be."""

    async def scenario(holder: FakeHolder, control: FakeControl, agent: ReplicaAgent) -> None:
        await agent.start()
        holder.digests, digests = None, holder.digests  # pyright: ignore
        await until(lambda: agent.loop.failures > 0)
        holder.digests = digests
        control.direct(Directive("c", 1, {"1": "d1", "2": "d2"}, rules("2", 2)))
        await until(lambda: holder.rules.epoch == 2)
        agent.loop.check()

    run_with_agent(scenario)


def test_a_load_that_ends_unexpectedly_is_counted_and_begun_again():
    """What a load fails with beside the load itself is no silent end: what is missing is loaded after it."""

    async def scenario(holder: FakeHolder, control: FakeControl, agent: ReplicaAgent) -> None:
        control.report_error = KeyError("a line of its own")
        await agent.start()
        control.direct(Directive("c", 1, {"1": "d1", "2": "d2", "3": "d3"}, rules("1", 1)))
        await until(lambda: agent.loop.failures > 0)
        control.report_error = None
        await until(lambda: control.reports[-1].held == {"1": "d1", "2": "d2", "3": "d3"})

    run_with_agent(scenario)


def test_a_replica_starts_though_control_says_what_it_cannot_follow():
    """The first directive fails it: the replica answers by what it was built with, and the failure is counted after."""

    async def scenario(holder: FakeHolder, control: FakeControl, agent: ReplicaAgent) -> None:
        control.direct(Directive("c", 1, {"1": "d1"}, None))  # pyright: ignore
        await agent.start()
        await until(lambda: agent.loop.failures > 0)
        assert holder.rules.epoch == 1

    run_with_agent(scenario)
