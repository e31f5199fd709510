"""What is counted of each version."""

from __future__ import annotations

import random

import pytest

from data.errors import Overloaded
from data.schema.output import Output
from ray_app.inference.observers import Answered, Failed
from ray_app.prediction import Lookup, Prediction, Row
from ray_app.rollout import version_stats as module
from ray_app.rollout.metrics import RolloutMetrics
from ray_app.rollout.slo_judge import SloJudge
from ray_app.rollout.version_stats import VersionStats, VersionStatsTable, merged
from tests.support.serving.metrics import samples, text
from tests.support.serving.predict_app import FULL, build_app, card_bundle, run
from tune.registry.rollout_spec import Slo
from tune.registry.traffic_rules import Challenger, TrafficRules

RENDERER = build_app().versions.view.champion.renderer


def champion() -> Output:
    """What the champion answers."""
    return RENDERER.output


EDGES = ("0.0005", "0.001", "0.25", "0.5", "2.5", "+Inf")


def answered(version: str = "2", entity: str | None = None, score: float = 0.1, latency_s: float = 0.001) -> Answered:
    """One answered row."""
    prediction = Prediction(Row(entity, None, [], {}), [score], Lookup(), 0)
    return Answered(version, 1, "id", latency_s, prediction, int(score >= 0.5), RENDERER)


def test_counts_of_a_version():
    """Requests, failures, latencies and scores are counted by version; a request with many rows is one request."""
    table = VersionStatsTable(champion)
    table.answered([answered(score=0.9), answered(score=0.1), answered("3", score=0.2)])
    table.answered([answered(latency_s=0.3)])
    table.failed(Failed("2", 1, "id", 0.1, 5, 503, Overloaded("full")))
    table.failed(Failed("2", 1, "id", 0.1, 1, 422, ValueError()))
    seen = table.report()
    two = seen["2"]
    assert (two.answered, two.errors, two.refused, two.requests) == (2, 1, 1, 4)
    assert (two.rows, two.refused_rows) == (9, 1)
    assert (two.scored, two.marked) == (3, 1)
    assert two.seconds == pytest.approx(0.301)
    assert seen["3"].answered == 1
    assert two.slower_than(0.29) == 1
    assert two.slower_than(0.3) == 0, "a limit of two digits is an edge"


def test_latencies_are_shown_by_version():
    """The histogram of a version has its requests in the buckets that they belong to, the sum and the count."""
    table = VersionStatsTable(champion)
    for latency_s in (0.0004, 0.0005, 0.0009, 0.3, 7.0):
        table.answered([answered(latency_s=latency_s)])
    found = samples(text(RolloutMetrics("g1", table.report, dict)))
    buckets = {edge: found["rayscore_version_request_seconds_bucket", f"le={edge},version=2"] for edge in EDGES}
    assert buckets == {"0.0005": 2, "0.001": 3, "0.25": 3, "0.5": 4, "2.5": 4, "+Inf": 5}
    assert found["rayscore_version_request_seconds_sum", "version=2"] == pytest.approx(7.3018)
    assert found["rayscore_version_request_seconds_count", "version=2"] == 5


def test_an_entity_counts_once():
    """Scores count once an entity, so that one card which pays all day is one observation; requests all count."""
    table = VersionStatsTable(champion)
    for entity in ("a", "b", "a", "a", None, None):
        table.answered([answered(entity=entity)])
    counted = table.report()["2"]
    assert (counted.answered, counted.scored) == (6, 4)


def test_entities_are_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch):
    """However many entities come by, so many are remembered at most; one that keeps asking counts once all the same."""
    monkeypatch.setattr(module, "_ENTITIES_REMEMBERED", 100)
    table = VersionStatsTable(champion)
    for other in range(2000):
        table.answered([answered(entity="busy"), answered(entity=f"card {other}")])
        if other % 50 == 0:
            table.report()
            scores = table._by_version["2"]
            assert len(scores.newer) + len(scores.older) <= 200
    assert table.report()["2"].scored == 2001


def test_an_entity_that_was_not_heard_of_for_long_counts_again(monkeypatch: pytest.MonkeyPatch):
    """It is remembered for as many others as are remembered, and forgotten after twice as many."""
    monkeypatch.setattr(module, "_ENTITIES_REMEMBERED", 10)
    table = VersionStatsTable(champion)

    def scored_after(others: int) -> int:
        before = table.report()["2"].scored
        for entity in [*(str(n) for n in range(others)), "rare"]:
            table.answered([answered(entity=entity + f" {before}" if entity != "rare" else entity)])
        return table.report()["2"].scored - before - others

    table.answered([answered(entity="rare")])
    assert [scored_after(9), scored_after(20)] == [0, 1]


def test_tallies_add_up_and_subtract():
    """The counts of gateways add up; what came since is a difference, or all of it where the counts began anew."""
    one, other = VersionStatsTable(champion), VersionStatsTable(champion)
    for table in (one, other, other):
        table.answered([answered(score=0.7)])
    total = merged([one.report(), other.report()])["2"]
    assert (total.answered, total.scored, total.marked) == (3, 3, 3)
    assert total.since(one.report()["2"]).answered == 2
    assert VersionStats().since(total).requests == 0
    begun_anew = VersionStatsTable(champion)
    for _ in range(4):
        begun_anew.failed(Failed("2", 1, "id", 0.1, 1, 503, Overloaded("full")))
    anew = begun_anew.report()["2"]
    assert anew.requests > total.requests
    assert anew.since(total).errors == 4, "more requests than before, and yet other ones"
    assert anew.since(total).answered == 0
    assert total.seconds == pytest.approx(0.003)
    assert total.since(one.report()["2"]).seconds == pytest.approx(0.002)
    assert (VersionStats().since(total).requests, VersionStats().since(total).seconds) == (0, 0)


def test_a_report_stays_as_it_was():
    """A report is a copy: what is counted later is not in it."""
    table = VersionStatsTable(champion)
    table.answered([answered()])
    report = table.report()
    for _ in range(1000):
        table.answered([answered()])
    assert report["2"].answered == 1
    assert table.report()["2"].answered == 1001


def test_versions_are_bounded():
    """No more than twenty versions are kept, however many come by."""
    table = VersionStatsTable(champion)
    for version in range(1, 100):
        table.answered([answered(str(version))])
    assert len(table.report()) == 20


def test_the_versions_seen_last_are_kept():
    """A version that goes on answering keeps its counts, however many others come by."""
    table = VersionStatsTable(champion)
    for version in range(2, 100):
        table.answered([answered("1")])
        table.failed(Failed(str(version), 1, "id", 0.1, 1, 422, ValueError()))
        assert table.report()["1"].answered == version - 1


def test_quantiles():
    """Latency quantiles are known to two digits; without requests there are none."""
    table = VersionStatsTable(champion)
    for at in range(100):
        table.answered([answered(latency_s=0.2 if at >= 98 else 0.0041)])
    plain = table.report()["2"].plain()
    assert (plain["p50_ms"], plain["p99_ms"]) == (4.1, 200)
    assert VersionStats().plain()["p50_ms"] is None


def test_real_answers_are_counted():
    """Behind the real HTTP application, an answer and a refusal are in the statistics with latency and score."""
    table = VersionStatsTable(champion)
    served = build_app(observers=[table])
    assert run(served.post(FULL)).status_code == 200
    assert run(served.post({"user_id": "u1"})).status_code == 422
    (counted,) = table.report().values()
    assert (counted.answered, counted.refused, counted.errors, counted.scored) == (1, 1, 0, 1)
    assert counted.slower_than(0.0001) == 1


def test_refused_rows_of_an_array_are_one_request():
    """An array of which all rows are refused is one request that was refused, with so many rows."""
    table = VersionStatsTable(champion)
    assert run(build_app(observers=[table]).post([{**FULL, "amount": "x"}] * 1000)).status_code == 200
    (counted,) = table.report().values()
    assert (counted.refused, counted.requests, counted.refused_rows, counted.rows) == (1, 1, 1000, 1000)


def test_arrays_are_no_evidence_against_the_smaller_part():
    """Of arrays with bad rows, divided between two versions, both refuse the same share, and nothing is refuted."""
    bundle = card_bundle()
    first = TrafficRules(use_case=bundle.manifest.name, champion="3", epoch=1)
    rules = first.model_copy(update={"challengers": (Challenger(version="4", weight=5),)}).after(first)
    table, rng = VersionStatsTable(champion), random.Random(1)
    served = build_app(rules=rules, bundles={"3": bundle, "4": bundle}, observers=[table])
    judge, before = SloJudge(Slo(), 0.05, alone=False), {"3": VersionStats(), "4": VersionStats()}

    async def sends() -> None:
        for _ in range(60):
            items = [{**FULL, "user_id": f"u{rng.randrange(10**6)}"} for _ in range(100)]
            for at in rng.sample(range(100), 5):
                items[at] = {**items[at], "amount": "x"}
            assert (await served.post(items)).status_code == 200
            now = before | table.report()
            judge.update(*(now[version].since(before[version]) for version in ("3", "4")))
            before.update(now)

    run(sends())
    for counted in (judge.champion, judge.version):
        assert counted.refused_rows / counted.rows == pytest.approx(0.05, abs=0.02)
    assert judge.champion.rows + judge.version.rows == 6000
    evidence = {finding.name: finding.evidence for finding in judge.findings()}
    assert evidence["refused"] < 0.5


def test_refused_rows_do_not_make_failures_rarer():
    """A request of which some rows are refused counts once among those that can fail, however large its part is."""
    one, other = (
        VersionStats(answered=99, errors=1),
        VersionStats(answered=99, errors=1, refused=100, rows=1000, refused_rows=200),
    )
    judge = SloJudge(Slo(), 0.05, alone=False)
    judge.update(other, one)
    (text,) = (finding.text for finding in judge.findings() if finding.name == "errors")
    assert text.startswith("1 % (1 of 100) against the champion's 1 % (1 of 100)")


def test_requests_by_name_are_left_out():
    """Requests that name a version are no evidence, whether they are answered, refused or fail."""
    table = VersionStatsTable(champion)
    served = build_app(observers=[table])
    for body in (FULL, [FULL], {**FULL, "amount": "x"}, [{**FULL, "amount": "x"}]):
        run(served.post(body, **{"x-model-version": "3"}))
    assert table.report() == {}
    run(served.post(FULL))
    assert table.report()["3"].requests == 1
