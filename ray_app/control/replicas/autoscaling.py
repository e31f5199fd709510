"""Serve's autoscaling policy by the busy share of replicas: Serve does not count requests that go past it.

A replica is one event loop, so the share of one CPU that its process uses is its load.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol

BUSY = "busy"
IN_FLIGHT = "in_flight"

FULL_IN_FLIGHT = 8
"""Calls in flight on one replica above which it counts as full, even with an idle CPU (a slow store)."""


class ScalingContext(Protocol):
    """The part of `ray.serve.config.AutoscalingContext` that the policy reads."""

    current_num_replicas: int
    policy_state: dict[str, Any] | None

    @property
    def aggregated_metrics(self) -> dict[str, dict[Any, float]] | None:
        """Each reported figure, averaged over the look-back period, by replica."""
        ...


class BusyMeter:
    """The share of one CPU that this process used since the last reading, between 0 and 1.

    Args:
        least_s: a reading sooner than this after the last one repeats it.
    """

    def __init__(
        self,
        cpu: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
        least_s: float = 0.0,
    ) -> None:
        self._cpu, self._clock, self._least_s = cpu, clock, least_s
        self._last = cpu(), clock()
        self._share = 0.0

    def read(self) -> float:
        """Return the share since the last reading."""
        now = self._clock()
        wall = now - self._last[1]
        if wall > self._least_s:
            before, self._last = self._last, (self._cpu(), now)
            self._share = min(max((self._last[0] - before[0]) / wall, 0.0), 1.0)
        return self._share


class BusyShareAutoscaling:
    """Asks for so many replicas that each is busy for the target share of one CPU.

    Serve applies the deployment's minimum, maximum and delays to what it returns.

    Args:
        target_busy: share of one CPU, between 0 and 1, that a replica is to use at most.
    """

    def __init__(self, target_busy: float) -> None:
        self._target = target_busy

    def __call__(self, context: ScalingContext) -> tuple[float, dict[str, Any]]:
        """Return the replicas wanted, and the state that Serve keeps for the next call."""
        reported = context.aggregated_metrics or {}
        busy = list((reported.get(BUSY) or {}).values())
        waiting = list((reported.get(IN_FLIGHT) or {}).values())
        if not busy:
            return context.current_num_replicas, context.policy_state or {}
        wanted = sum(busy) / self._target
        if waiting and sum(waiting) / len(waiting) > FULL_IN_FLIGHT:
            wanted = max(wanted, sum(waiting) / FULL_IN_FLIGHT)
        return max(1, math.ceil(wanted - 1e-9)), context.policy_state or {}
