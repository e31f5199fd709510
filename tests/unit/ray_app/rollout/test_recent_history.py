"""The last minutes of each version: what came in each step, whatever happens to gateways and to Control."""

from __future__ import annotations

import numpy as np
import pytest

from ray_app.rollout.recent_history import RecentHistory
from ray_app.rollout.version_stats import LATENCY_EDGES_S, VersionStats

Columns = dict[str, list]


def counted(answered: int, errors: int = 0, refused: int = 0, latency_s: float = 0.002) -> VersionStats:
    """Cumulative statistics whose answers all took the same time."""
    at = np.searchsorted(LATENCY_EDGES_S, [latency_s] * answered)
    return VersionStats(answered, errors, refused, np.bincount(at, minlength=len(LATENCY_EDGES_S) + 1))


class Watched:
    """A history with steps of five seconds, and a clock."""

    def __init__(self, steps: int = 4) -> None:
        self.now = 100.0
        self.history = RecentHistory(5.0, steps)

    def second(self, **replicas: dict[str, VersionStats]) -> None:
        """Let a second pass, at whose end the replicas have said this."""
        self.now += 1
        self.history.record(replicas, self.now, 1e9 + self.now)

    def seconds(self, count: int, **replicas: dict[str, VersionStats]) -> None:
        """Let seconds pass in which nothing is counted."""
        for _ in range(count):
            self.second(**replicas)

    def of(self, version: str) -> Columns:
        """The version's figures."""
        return self.history.plain()["versions"].get(version, {})


def test_each_step_has_what_came_in_it():
    """Requests, errors, refusals and quantiles are those of the step alone, over all gateways."""
    watched = Watched()
    watched.second(a={"1": counted(10)}, b={"1": counted(5)})
    watched.seconds(5, a={"1": counted(40, 3)}, b={"1": counted(15, 0, 2)})
    watched.seconds(5, a={"1": counted(41, 3) + counted(9, latency_s=0.05)}, b={"1": counted(15, 0, 2)})
    found = watched.of("1")
    assert found["requests"] == [45, 10]
    assert (found["errors"], found["refused"]) == ([3, 0], [2, 0])
    assert found["p50_ms"] == [2.0, 50.0]
    assert found["p99_ms"] == [2.0, 50.0]


def test_it_begins_with_nothing():
    """A Control that starts over hears of millions of requests at once: they are not of this minute."""
    watched = Watched()
    watched.seconds(6, a={"1": counted(10**6)})
    assert watched.of("1") == {}
    assert watched.history.last_minute()[1] == {}


def test_a_gateway_that_is_gone_or_new_makes_no_step():
    """Its counts vanish, another begins anew, one comes back: nothing is negative, and nothing counts twice."""
    watched = Watched()
    watched.second(a={"1": counted(10**6)}, b={"1": counted(100)})
    watched.seconds(5, a={"1": counted(10**6 + 10)}, b={"1": counted(110)})
    watched.seconds(5, b={"1": counted(130)})
    watched.second(b={"1": counted(130)}, c={"1": counted(3)})
    watched.seconds(4, a={"1": counted(10**6 + 10)}, b={"1": counted(130)}, c={"1": counted(8)})
    assert watched.of("1")["requests"] == [20, 20, 5]


def test_counts_that_begin_again_are_not_negative():
    """A gateway that dropped a version's counts and counts anew is taken as it is."""
    watched = Watched()
    watched.second(a={"1": counted(500)})
    watched.seconds(5, a={"1": counted(3)})
    watched.seconds(5, a={"1": counted(7)})
    assert watched.of("1")["requests"] == [3, 4]


def test_a_version_that_begins_later_is_zero_before():
    """Each figure has a value for every step, so that they can be drawn over one axis."""
    watched = Watched()
    watched.second(a={"1": counted(1)})
    watched.seconds(5, a={"1": counted(6)})
    watched.seconds(5, a={"1": counted(6), "12": counted(4)})
    assert watched.of("12")["requests"] == [0, 4]
    assert watched.of("12")["p50_ms"] == [None, 2.0]
    assert watched.of("1")["p99_ms"] == [2.0, None]
    assert list(watched.history.plain()["versions"]) == ["1", "12"]


def test_memory_is_bounded():
    """The newest steps stay; replicas that are gone are forgotten."""
    watched = Watched(steps=3)
    watched.second(a={"1": counted(0)})
    for at in range(50):
        watched.seconds(5, **{f"gateway{at}": {"1": counted(0)}, "a": {"1": counted(at)}})
    plain = watched.history.plain()
    assert len(plain["at"]) == len(plain["seconds"]) == 3
    assert watched.of("1")["requests"] == [1, 1, 1]
    assert watched.history.last_minute()[0] == pytest.approx(60)


def test_a_late_step_is_as_long_as_it_was():
    """Control that could not tick for a while: rates are over the time that passed."""
    watched = Watched()
    watched.second(a={"1": counted(0)})
    watched.now += 10
    watched.second(a={"1": counted(120)})
    assert watched.history.plain()["seconds"] == [11.0]
    assert watched.of("1")["requests"] == [120]


def test_the_last_minute_has_whole_histograms():
    """Quantiles of the minute are over its requests, not over those of its steps."""
    watched = Watched(steps=100)
    watched.second(a={"1": counted(0)})
    total = VersionStats()
    for at in range(20):
        total += counted(100) if at % 4 else counted(1, latency_s=0.5)
        watched.seconds(5, a={"1": total})
    seconds, minute = watched.history.last_minute()
    assert seconds == pytest.approx(60)
    assert minute["1"].answered == 903
    assert minute["1"].slower_than(0.1) == 3
