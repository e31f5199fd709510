"""The line of a replica that holds no versions: it goes on telling, and is never waited for."""

from __future__ import annotations

import pytest

from data.errors import ControlUnavailable
from ray_app.control import metrics_reporter as module
from ray_app.control.messages import BYSTANDER, GATEWAY, MODEL, ReplicaReport
from ray_app.control.metrics_reporter import MetricsReporter
from ray_app.control.replica_states import GRAPH_KINDS, SILENT_S, ReplicaStates
from tests.support.serving import run, until
from tune.registry.traffic_rules import TrafficRules

RULES = TrafficRules(use_case="card", champion="1", epoch=1)


class Said:
    """A line that remembers what it was told, and fails when Control is gone."""

    def __init__(self) -> None:
        self.reports: list[ReplicaReport] = []
        self.asked = 0
        self.gone = False

    async def tell(self, report: ReplicaReport) -> None:
        """Take a report."""
        self.asked += 1
        if self.gone:
            raise ControlUnavailable("gone")
        self.reports.append(report)


def test_it_tells_again_and_again_also_after_control_was_gone(monkeypatch: pytest.MonkeyPatch):
    """Each report has what there is to be told at that moment; a Control that is away is told when it is back."""
    monkeypatch.setattr(module, "_EVERY_S", 0.001)

    async def scenario() -> list[ReplicaReport]:
        line, told = Said(), iter(range(100_000))
        bystander = MetricsReporter("f1", "contract", RULES, line, {"metrics": lambda: next(told)})
        await until(lambda: len(line.reports) >= 2)
        line.gone, asked = True, line.asked
        await until(lambda: line.asked > asked + 2)
        before = len(line.reports)
        line.gone = False
        await until(lambda: len(line.reports) > before)
        await bystander.stop()
        return line.reports

    reports = run(scenario())
    assert {(report.replica, report.kind, report.contract) for report in reports} == {("f1", BYSTANDER, "contract")}
    assert [report.count for report in reports] == sorted({report.count for report in reports})
    extras = [report.extras["metrics"] for report in reports]
    assert extras == sorted(set(extras))


def test_a_report_that_cannot_be_made_is_counted_and_made_again(monkeypatch: pytest.MonkeyPatch):
    """What there is to be told fails once: that is counted, and the next reports go out."""
    monkeypatch.setattr(module, "_EVERY_S", 0.001)

    async def scenario() -> int:
        line, pages = Said(), iter([1])
        reporter = MetricsReporter("f1", "contract", RULES, line, {"metrics": lambda: next(pages)})
        await until(lambda: reporter.loop.failures > 0)
        pages = iter(range(100_000))
        before = len(line.reports)
        await until(lambda: len(line.reports) > before)
        reporter.loop.check()
        await reporter.stop()
        return reporter.loop.failures

    assert run(scenario()) >= 1


def test_bystanders_are_known_by_their_reports_until_they_fall_silent():
    """What a bystander told is there while it reports, and gone some seconds after its last word."""
    known = ReplicaStates(frozenset())
    known.hear(ReplicaReport("f1", BYSTANDER, "contract", 1, -1, {}, RULES, extras={"metrics": "page"}), 100.0)
    known.sweep(100.0 + SILENT_S)
    assert known.extras("metrics", gone=False) == {"f1": "page"}
    known.sweep(100.1 + SILENT_S)
    assert known.extras("metrics", gone=False) == {}


def test_replicas_say_what_they_hold():
    """Kinds and versions held are those of the last reports."""
    known = ReplicaStates(GRAPH_KINDS)
    known.hear(ReplicaReport("g1", GATEWAY, "contract", 1, 1, {"1": "d1"}, RULES), 100.0)
    known.hear(ReplicaReport("m1", MODEL, "contract", 1, 1, {"1": "d1", "2": "d2"}, RULES), 100.0)
    assert sorted(known.held()) == [(GATEWAY, ["1"]), (MODEL, ["1", "2"])]
