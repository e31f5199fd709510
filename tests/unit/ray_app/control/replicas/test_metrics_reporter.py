"""The reports of a replica that holds no versions: they go on, and nothing waits for them."""

from __future__ import annotations

import pytest

from data.errors import ControlUnavailable
from ray_app.control.messages import GATEWAY, METRICS_ONLY, MODEL, ReplicaReport
from ray_app.control.replicas import metrics_reporter as module
from ray_app.control.replicas.metrics_reporter import MetricsReporter
from ray_app.control.state.replica_states import GRAPH_KINDS, SILENT_S, ReplicaStates
from tests.support.serving.predict_app import run, until
from tune.registry.traffic_rules import TrafficRules

RULES = TrafficRules(use_case="card", champion="1", epoch=1)


class FakeControl:
    """A Control that keeps the reports it gets, and fails while it is gone."""

    def __init__(self) -> None:
        self.reports: list[ReplicaReport] = []
        self.asked = 0
        self.gone = False

    async def report(self, report: ReplicaReport) -> None:
        """Take a report."""
        self.asked += 1
        if self.gone:
            raise ControlUnavailable("gone")
        self.reports.append(report)


def test_it_tells_again_and_again_also_after_control_was_gone(monkeypatch: pytest.MonkeyPatch):
    """Each report has the values of its moment; reports arrive again when a Control that was away is back."""
    monkeypatch.setattr(module, "_EVERY_S", 0.001)

    async def scenario() -> list[ReplicaReport]:
        control, values = FakeControl(), iter(range(100_000))
        reporter = MetricsReporter("f1", "contract", RULES, control, {"metrics": lambda: next(values)})
        await until(lambda: len(control.reports) >= 2)
        control.gone, asked = True, control.asked
        await until(lambda: control.asked > asked + 2)
        before = len(control.reports)
        control.gone = False
        await until(lambda: len(control.reports) > before)
        await reporter.stop()
        return control.reports

    reports = run(scenario())
    assert {(report.replica, report.kind, report.contract) for report in reports} == {("f1", METRICS_ONLY, "contract")}
    assert [report.count for report in reports] == sorted({report.count for report in reports})
    extras = [report.extras["metrics"] for report in reports]
    assert extras == sorted(set(extras))


def test_a_report_that_cannot_be_made_is_counted_and_made_again(monkeypatch: pytest.MonkeyPatch):
    """Values that cannot be made once are counted as a failure, and the next reports go out."""
    monkeypatch.setattr(module, "_EVERY_S", 0.001)

    async def scenario() -> int:
        control, pages = FakeControl(), iter([1])
        reporter = MetricsReporter("f1", "contract", RULES, control, {"metrics": lambda: next(pages)})
        await until(lambda: reporter.loop.failures > 0)
        pages = iter(range(100_000))
        before = len(control.reports)
        await until(lambda: len(control.reports) > before)
        reporter.loop.check()
        await reporter.stop()
        return reporter.loop.failures

    assert run(scenario()) >= 1


def test_replicas_without_versions_are_known_by_their_reports_until_they_fall_silent():
    """Values of a replica that only reports metrics are there while it reports, and gone seconds after."""
    known = ReplicaStates(frozenset())
    known.record(ReplicaReport("f1", METRICS_ONLY, "contract", 1, -1, {}, RULES, extras={"metrics": "page"}), 100.0)
    known.sweep(100.0 + SILENT_S)
    assert known.extras("metrics", gone=False) == {"f1": "page"}
    known.sweep(100.1 + SILENT_S)
    assert known.extras("metrics", gone=False) == {}


def test_replicas_say_what_they_hold():
    """Kinds and versions held are those of the last reports."""
    known = ReplicaStates(GRAPH_KINDS)
    known.record(ReplicaReport("g1", GATEWAY, "contract", 1, 1, {"1": "d1"}, RULES), 100.0)
    known.record(ReplicaReport("m1", MODEL, "contract", 1, 1, {"1": "d1", "2": "d2"}, RULES), 100.0)
    assert sorted(known.held()) == [(GATEWAY, ["1"]), (MODEL, ["1", "2"])]
