"""Objectives, verdicts, and the refusal to report what the generator limited."""

from __future__ import annotations

import numpy as np
import pytest

from data.errors import ConfigError
from ray_app.loadtest.generator import Run
from ray_app.loadtest.samples import TIMEOUT, Samples
from ray_app.loadtest.slo import parse_slo
from ray_app.loadtest.summary import LoadSummary, figures, seconds
from ray_app.loadtest.verdict import client_limit, judge


def summed(latency_s: float, late_s: float = 0.0, bad: int = 0, outcome: int = 503, cpu: float = 0.1) -> LoadSummary:
    """Figures of 100 requests in 1 s, all alike but for `bad` ones with another outcome."""
    samples = Samples(np.arange(100) / 100)
    samples.latency[:], samples.lateness[:], samples.outcome[:] = latency_s, late_s, 200
    samples.outcome[:bad], samples.limit_s = outcome, 5.0
    return figures(Run(samples, seconds=1.0, cpu_share=cpu), 1.0)


def test_terms():
    """Times carry a unit, errors are a count or a percentage."""
    assert [(t.name, t.bound) for t in parse_slo("p99=5ms, p50=800us,max=1.5s")] == [
        ("p99", 0.005),
        ("p50", pytest.approx(0.0008)),
        ("max", 1.5),
    ]
    assert [(t.bound, t.is_share) for t in (*parse_slo("errors=3"), *parse_slo("errors=0.1%"))] == [
        (3, False),
        (0.001, True),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "''"),
        ("p99", "p99 needs a time"),
        ("p99=5", "unit"),
        ("p99=-5ms", "unit"),
        ("p98=5ms", "'p98' is none of"),
        ("errors=few", "whole number"),
        ("errors=0.5", "percentage"),
        ("p99=5ms,", "''"),
        ("p99=5ms,p99=6ms", "twice"),
    ],
)
def test_wrong_terms(text: str, says: str):
    """A wrong objective is refused with what was expected."""
    with pytest.raises(ConfigError, match=says):
        parse_slo(text)


def test_verdict():
    """A bound is held when the figure is at most the bound."""
    found = summed(0.004, bad=1)
    held = {j.objective.text: j.held for j in judge(found, parse_slo("p99=4ms,p50=3ms,errors=1%"))}
    assert held == {"p99=4ms": True, "p50=3ms": False, "errors=1%": True}
    assert not judge(found, parse_slo("errors=0"))[0].held


def test_no_answer_holds_no_latency():
    """When nothing was answered, or nothing was even over, a latency bound is missed."""
    assert not judge(summed(0.001, bad=100), parse_slo("p99=5ms"))[0].held
    nothing = figures(Run(Samples(np.arange(4) / 4), seconds=1.0), 1.0)
    assert not judge(nothing, parse_slo("p99=5ms"))[0].held


def test_failures_do_not_flatter():
    """Percentiles are over all requests: what failed counts with the time limit, or with more when it took more."""
    samples = Samples(np.arange(4) / 4)
    samples.latency[:], samples.lateness[:] = [0.1, 0.001, 5.0, 0.2], 0
    samples.outcome[:], samples.limit_s = [200, 503, TIMEOUT, 200], 4.0
    found = figures(Run(samples, seconds=1.0), 1.0)
    assert (found.latency["p50"], found.latency["p90"], found.latency["max"]) == (0.2, 5.0, 5.0)
    assert sorted(samples.measured().judged(samples.latency).tolist()) == [0.1, 0.2, 4.0, 5.0]
    assert [second.p99 for second in seconds(Run(samples))] == [5.0, *[pytest.approx(np.nan, nan_ok=True)] * 5]
    assert {kind: count for kind, (count, _) in found.kinds.items()} == {"2xx": 2, "5xx": 1, "timeout": 1}
    assert found.errors == 2


def test_slow_failures_miss():
    """A service that answers every third request 504, however late, holds no percentile above two thirds."""
    samples = Samples(np.arange(3000) / 100)
    samples.lateness[:], samples.limit_s = 0.0001, 0.5
    samples.latency[:], samples.outcome[:] = 0.003, 200
    samples.latency[::3], samples.outcome[::3] = 1.001, 504
    found = figures(Run(samples, seconds=30.0), 30.0)
    assert [judged.held for judged in judge(found, parse_slo("p50=5ms,p90=5ms,p99=5ms"))] == [True, False, False]
    assert found.latency["p99"] == 1.001


def test_quick_failures_do_not_excuse_a_late_generator():
    """Lateness is held against what was really waited for, not against the time limit that failures count with."""
    assert "late" in (client_limit(summed(0.004, late_s=0.003, bad=10), ()) or "")


def test_late_generator_is_refused():
    """Lateness of more than 2 ms and a fifth of the latency is no measurement of the service."""
    assert client_limit(summed(0.004, late_s=0.001), ()) is None
    assert "late" in (client_limit(summed(0.010, late_s=0.003), ()) or "")
    assert client_limit(summed(0.100, late_s=0.003), ()) is None
    assert "late" in (client_limit(summed(0.010, late_s=0.003), parse_slo("p99=50ms,errors=0")) or "")
    assert client_limit(summed(0.010, late_s=0.003), parse_slo("errors=0")) is None


def test_saturated_generator_is_refused():
    """Short of the asked rate on a full CPU: the generator was the limit."""
    slow = summed(2.0, cpu=1.0)
    assert "under way" in (client_limit(slow, ()) or "")
    assert client_limit(summed(2.0, cpu=0.3), ()) is None


def test_verdict_that_lateness_decides_is_refused():
    """A bound missed only by the generator's own lateness is not reported as missed."""
    assert "taken out" in (client_limit(summed(0.0055, late_s=0.001), parse_slo("p99=5ms")) or "")
    assert client_limit(summed(0.0075, late_s=0.001), parse_slo("p99=5ms")) is None
