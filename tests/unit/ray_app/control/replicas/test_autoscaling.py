"""How many replicas a stage asks for, by what its replicas report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from ray_app.control.replicas.autoscaling import BUSY, IN_FLIGHT, BusyMeter, BusyShareAutoscaling


@dataclass
class Context:
    """The part of Serve's context that the policy reads."""

    aggregated_metrics: dict[str, dict[Any, float]] | None
    current_num_replicas: int = 1
    policy_state: dict[str, Any] | None = field(default_factory=dict)


@pytest.mark.parametrize(
    ("busy", "in_flight", "wanted"),
    [
        ([0.0], [0.0], 1),
        ([0.5], [1.0], 1),
        ([0.6], [1.0], 1),
        ([0.95], [2.0], 2),
        ([0.9, 0.9], [2.0, 2.0], 3),
        ([0.1, 0.1, 0.1], [0.0, 0.0, 0.0], 1),
        ([0.1], [40.0], 5),
    ],
    ids=["idle", "half", "at the target", "full", "two full", "three idle", "slow store"],
)
def test_replicas_follow_the_load(busy: list[float], in_flight: list[float], wanted: int) -> None:
    """As many replicas as bring each down to the target share; calls that pile up count as load too."""
    reported = {BUSY: dict(enumerate(busy)), IN_FLIGHT: dict(enumerate(in_flight))}

    assert BusyShareAutoscaling(0.6)(Context(reported, len(busy)))[0] == wanted


def test_a_lower_target_asks_for_more_replicas() -> None:
    """The share that a replica is to use is the operator's choice."""
    assert [BusyShareAutoscaling(target)(Context({BUSY: {0: 0.55}}))[0] for target in (0.6, 0.3, 0.1)] == [1, 2, 6]


def test_without_reports_nothing_changes() -> None:
    """Before replicas have reported, their number stays as it is."""
    assert BusyShareAutoscaling(0.6)(Context(None, 3))[0] == 3
    assert BusyShareAutoscaling(0.6)(Context({BUSY: {}}, 3))[0] == 3


def test_busy_share_is_cpu_time_over_wall_time() -> None:
    """The meter reads the share of one CPU since its last reading, at most 1."""
    cpu, clock = iter([10.0, 10.5, 13.0]), iter([100.0, 102.0, 103.0])
    meter = BusyMeter(lambda: next(cpu), lambda: next(clock))

    assert meter.read() == 0.25
    assert meter.read() == 1.0


def test_readings_in_quick_succession_are_one() -> None:
    """Too short a time says nothing: the last share holds until enough of it has passed."""
    cpu, clock = iter([0.0, 1.0, 1.0]), iter([0.0, 4.0, 4.1, 6.0])
    meter = BusyMeter(lambda: next(cpu), lambda: next(clock), least_s=0.5)

    assert [meter.read(), meter.read(), meter.read()] == [0.25, 0.25, 0.0]
