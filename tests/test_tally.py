"""What is counted of each version."""

from __future__ import annotations

import pytest

from data.errors import Overloaded
from ray_app.observer import Answered, Failed
from ray_app.prediction import Lookup, Prediction
from ray_app.request import Row
from ray_app.rollout.board import GatewayBoard
from ray_app.rollout.tally import Tallies, Tally, merged
from tests.support_metrics import samples, text
from tests.support_serving import FULL, door, run

ANSWERS = door().lanes.view.champion.answers


EDGES = ("0.0005", "0.001", "0.25", "0.5", "2.5", "+Inf")


def answered(version: str = "2", entity: str | None = None, score: float = 0.1, latency_s: float = 0.001) -> Answered:
    """One answered row."""
    prediction = Prediction(Row(entity, None, [], {}), score, Lookup(), 0)
    return Answered(version, 1, "id", latency_s, prediction, int(score >= 0.5), ANSWERS)


def test_counts_of_a_version():
    """Requests, failures, latencies and scores are counted by version; a request with many rows is one request."""
    tallies = Tallies()
    tallies.answered([answered(score=0.9), answered(score=0.1), answered("3", score=0.2)])
    tallies.answered([answered(latency_s=0.3)])
    tallies.failed(Failed("2", 1, "id", 0.1, 5, 503, Overloaded("full")))
    tallies.failed(Failed("2", 1, "id", 0.1, 1, 422, ValueError()))
    seen = tallies.report()
    two = seen["2"]
    assert (two.answered, two.errors, two.refused, two.requests) == (2, 1, 1, 4)
    assert (two.scored, two.positives) == (3, 1)
    assert two.seconds == pytest.approx(0.301)
    assert seen["3"].answered == 1
    assert two.slower_than(0.29) == 1
    assert two.slower_than(0.3) == 0, "a limit of two digits is an edge"


def test_latencies_are_shown_by_version():
    """The histogram of a version has its requests in the buckets that they belong to, the sum and the count."""
    tallies = Tallies()
    for latency_s in (0.0004, 0.0005, 0.0009, 0.3, 7.0):
        tallies.answered([answered(latency_s=latency_s)])
    found = samples(text(GatewayBoard("g1", tallies.report, dict)))
    buckets = {edge: found["rayscore_version_request_seconds_bucket", f"le={edge},version=2"] for edge in EDGES}
    assert buckets == {"0.0005": 2, "0.001": 3, "0.25": 3, "0.5": 4, "2.5": 4, "+Inf": 5}
    assert found["rayscore_version_request_seconds_sum", "version=2"] == pytest.approx(7.3018)
    assert found["rayscore_version_request_seconds_count", "version=2"] == 5


def test_an_entity_counts_once():
    """Scores count once an entity, so that one card which pays all day is one observation; requests all count."""
    tallies = Tallies()
    for entity in ("a", "b", "a", "a", None, None):
        tallies.answered([answered(entity=entity)])
    tally = tallies.report()["2"]
    assert (tally.answered, tally.scored) == (6, 4)


def test_tallies_add_up_and_subtract():
    """The counts of gateways add up; what came since is a difference, and never below zero."""
    one, other = Tallies(), Tallies()
    for tallies in (one, other, other):
        tallies.answered([answered(score=0.7)])
    total = merged([one.report(), other.report()])["2"]
    assert (total.answered, total.scored, total.positives) == (3, 3, 3)
    assert total.since(one.report()["2"]).answered == 2
    assert total.seconds == pytest.approx(0.003)
    assert total.since(one.report()["2"]).seconds == pytest.approx(0.002)
    assert (Tally().since(total).requests, Tally().since(total).seconds) == (0, 0)


def test_a_report_stays_as_it_was():
    """A report is a copy: what is counted later is not in it."""
    tallies = Tallies()
    tallies.answered([answered()])
    report = tallies.report()
    for _ in range(1000):
        tallies.answered([answered()])
    assert report["2"].answered == 1
    assert tallies.report()["2"].answered == 1001


def test_versions_are_bounded():
    """No more than twenty versions are kept, however many come by."""
    tallies = Tallies()
    for version in range(1, 100):
        tallies.answered([answered(str(version))])
    assert len(tallies.report()) == 20


def test_quantiles():
    """Latency quantiles are known to two digits; without requests there are none."""
    tallies = Tallies()
    for at in range(100):
        tallies.answered([answered(latency_s=0.2 if at >= 98 else 0.0041)])
    plain = tallies.report()["2"].plain()
    assert (plain["p50_ms"], plain["p99_ms"]) == (4.1, 200)
    assert Tally().plain()["p50_ms"] is None


def test_real_answers_are_counted():
    """Behind the real door, an answer and a refusal are in the tally with latency and score."""
    tallies = Tallies()
    served = door(observers=[tallies])
    assert run(served.post(FULL)).status_code == 200
    assert run(served.post({"user_id": "u1"})).status_code == 422
    (tally,) = tallies.report().values()
    assert (tally.answered, tally.refused, tally.errors, tally.scored) == (1, 1, 0, 1)
    assert tally.slower_than(0.0001) == 1
