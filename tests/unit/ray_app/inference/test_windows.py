"""Windows and expressions in the service: what a request sees of the events before it, and what is recorded of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data.errors import DataError, StoreUnavailable
from data.event_store import EventOutcome, RowQuery
from data.event_store.sqlite.store import SqliteEvents
from data.feature_views.events.event import Event
from data.online_store import OnlineStore
from data.transform.encoding import Transform
from ray_app.inference.features.event_windows import EventWindows
from ray_app.inference.features.feature_fetch import FeatureServer, LocalFeatures, RemoteFeatures
from ray_app.inference.models.model_scoring import LocalModel
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.inference.pipeline import InferencePipeline
from ray_app.inference.stages import FetchedRows
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.prediction import RowWindows
from ray_app.protocol.row_parser import RowParser
from ray_app.rollout.shadow import Shadow
from tests.support.serving.metrics import samples, text
from tests.support.serving.predict_app import VERSION, ServedApp, build_app, run
from tests.support.serving.window_app import (
    bits,
    swipe,
    swipes_app,
    swipes_bundle,
    swipes_stage,
    swipes_table,
)
from tune.registry.traffic_rules import Challenger, Mode, TrafficRules


async def _each(served: ServedApp, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    async with served.client() as client:
        return [(await client.post("/predict?detail=1", json=row)).json() for row in rows]


def _values(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: bits(used["value"]) for name, used in answer["features"].items()}


def test_each_swipe_sees_those_before_it_as_the_table_does(tmp_path: Path):
    """Ten swipes of a card, one after the other: 0 to 9 are seen, and every value equals the table's bit for bit."""
    rows = [swipe(at, at, amount=10.01 + at / 3, channel=("web", "chip")[at % 2]) for at in range(10)]
    table = swipes_table(rows)
    with swipes_app(tmp_path / "events.db") as served:
        answers = run(_each(served, rows))
    assert [answer["features"]["card_count_1d"]["value"] for answer in answers] == list(range(10))
    assert [answer["features"]["card_count_1d"]["events"] for answer in answers] == list(range(10))
    assert all(answer["recorded"] for answer in answers)
    names = swipes_bundle().manifest.schema_.names
    offline = [{name: bits(row[name]) for name in names} for row in table.to_pylist()]
    for row in offline:  # a request has the default in its answer, a table leaves it to the encoder
        row["terminal_risk_7d"] = row["terminal_risk_7d"] or bits(0.0)
    assert [_values(answer) for answer in answers] == offline


def test_a_table_with_windows_is_scored_as_its_requests_were(tmp_path: Path):
    """The score of a row is one, over HTTP and from a table that holds its windows; no event is read for the latter."""
    rows = [swipe(at, at * 7, amount=10.0 + at) for at in range(6)]
    with swipes_app(tmp_path / "events.db") as served:
        answers = run(_each(served, rows))
        scores = run(served.versions.view.champion.inference.score_table(swipes_table(rows)))
    assert [[answer["probability"]] for answer in answers] == scores.tolist()


def test_a_table_without_windows_is_refused_by_name(tmp_path: Path):
    """A table that lacks window columns is no table to score: they are named, and how they are made."""
    with (
        swipes_app(tmp_path / "events.db") as served,
        pytest.raises(DataError, match=r"card_count_1d, .*terminal_risk_7d.*: .*add them first by 'rayscore features'"),
    ):
        run(served.versions.view.champion.inference.score_table(pa.Table.from_pylist([swipe(0, 0)])))


def test_a_request_sent_again_is_one_event(tmp_path: Path):
    """The same key, or without a key the same request, is recorded once, and its row sees the same both times."""
    first, keyless = swipe(1, 0), {k: v for k, v in swipe(2, 1).items() if k not in ("swipe_id", "swiped_at")}
    with swipes_app(tmp_path / "events.db") as served:
        once, again = run(_each(served, [first, first]))
        ids = [run(served.post(keyless, "/predict?detail=1", **{"x-request-id": "r1"})).json() for _ in range(2)]
        retried = run(served.post(keyless, "/predict?detail=1", **{"x-attempt-id": "a1"})).json()
        resent = run(served.post(keyless, "/predict?detail=1", **{"x-attempt-id": "a1"})).json()
        counted = samples(text(served.metrics.registry))
    assert _values(once) == _values(again)
    assert ids[0]["event_time"] == ids[1]["event_time"]
    assert _values(ids[0]) == _values(ids[1])
    assert _values(retried) == _values(resent)
    assert retried["features"]["pair_count_30d"]["value"] == ids[0]["features"]["pair_count_30d"]["value"] + 1
    assert counted["rayscore_events_total", "outcome=taken"] == 3
    assert counted["rayscore_events_total", "outcome=repeated"] == 3


def test_a_key_that_comes_with_other_content_is_scored_but_not_recorded(tmp_path: Path):
    """The event that the store has stays as it is, and the answer says that this one was not recorded."""
    with swipes_app(tmp_path / "events.db") as served:
        first, other = run(_each(served, [swipe(1, 0), swipe(1, 0, amount=99.0)]))
        counted = samples(text(served.metrics.registry))
    assert (first["recorded"], other["recorded"]) == (True, False)
    assert counted["rayscore_events_total", "outcome=conflict"] == 1


def test_rows_of_an_array_are_recorded_in_its_order(tmp_path: Path):
    """Rows without key and time are each an event of their own, and each sees those before it."""
    row = {name: value for name, value in swipe(0, 0).items() if name not in ("swipe_id", "swiped_at")}
    with swipes_app(tmp_path / "events.db") as served:
        answers = run(served.post([row] * 5, "/predict?detail=1")).json()
    assert [answer["features"]["card_count_1d"]["value"] for answer in answers] == [0, 1, 2, 3, 4]


def test_answers_go_on_when_the_event_store_does_not():
    """Without the store windows have their defaults, and the answer says that it is degraded and not recorded."""

    def refuse() -> SqliteEvents:
        raise StoreUnavailable("no events today")

    with swipes_stage(Path("none"), refuse) as stage:
        served = build_app(stage, bundle=swipes_bundle())
        (answer,) = run(_each(served, [swipe(1, 0)]))
        counted = samples(text(served.metrics.registry))
    assert answer["degraded"] is True
    assert answer["recorded"] is False
    assert answer["features"]["card_count_1d"] == {"value": None, "source": "default", "events": None}
    assert answer["features"]["terminal_risk_7d"] == {"value": 0, "source": "default", "events": None}
    assert counted["rayscore_lookup_failures_total", "reason=store_unavailable"] == 1


def test_metrics_say_where_values_came_from_and_how_old_the_newest_event_is(tmp_path: Path):
    """Windows and expressions are sources of values, and the newest event's age is that at the row's time."""
    with swipes_app(tmp_path / "events.db") as served:
        run(_each(served, [swipe(1, 0), swipe(2, 2)]))
        counted = samples(text(served.metrics.registry))
    assert counted["rayscore_feature_source_total", "source=request"] == 2
    assert counted["rayscore_feature_source_total", "source=computed"] == 1
    assert counted["rayscore_feature_source_total", "source=events"] == 3 + 6
    assert counted["rayscore_newest_event_age_seconds_count", ""] == 1
    assert counted["rayscore_newest_event_age_seconds_sum", ""] == 120


def test_a_shadow_sees_what_the_champion_saw_and_records_nothing(tmp_path: Path):
    """A shadow scores with the windows of the time at which the champion answered, so that the two scores are one."""
    challenger = Challenger(version="4", weight=100, mode=Mode.SHADOW)
    rules = TrafficRules(use_case="swipes", champion=VERSION, challengers=(challenger,), epoch=1)
    bundles = {VERSION: swipes_bundle(), "4": swipes_bundle()}

    async def scenario(stage: LocalFeatures) -> Shadow:
        scoring = build_app(stage, bundle=swipes_bundle(), rules=rules, bundles=bundles)
        shadow = Shadow(scoring.versions)
        answering = build_app(stage, bundle=swipes_bundle(), rules=rules, bundles=bundles, observers=[shadow])
        seen = []
        for at in range(5):
            row = {**swipe(at, 0), "swiped_at": None}
            seen.append((await answering.post(row, "/predict?detail=1")).json()["features"]["card_count_1d"]["value"])
        await shadow.idle()
        assert seen == [0, 1, 2, 3, 4]
        return shadow

    with swipes_stage(tmp_path / "events.db") as stage:
        comparison = run(scenario(stage)).report()["4"]
    assert comparison.rows == 5
    assert comparison.failed == 0
    assert all(pair.champion == pair.shadow for pair in comparison.sample)


def test_the_other_end_of_a_transport_answers_the_same(tmp_path: Path):
    """Windows over a transport are those of this process, and a failing event store says why, alone."""
    manifest = swipes_bundle().manifest
    parser = RowParser(manifest, Transform(manifest.schema_))
    queries = [parser.parse(swipe(at, at)).query for at in range(3)]

    async def far(stage: LocalFeatures) -> FetchedRows:
        async def send(request: bytes, timeout_s: float) -> bytes:
            return await FeatureServer(stage).call(request)

        return await RemoteFeatures(send, 5).fetch_rows([], [query for query in queries if query is not None])

    with swipes_stage(tmp_path / "events.db") as stage:
        recorded = run(far(stage))
        again = run(stage.fetch_rows([], [query for query in queries if query is not None]))
    assert isinstance(recorded.windows, list)
    assert isinstance(again.windows, list)
    assert [[bits(v) for v in each.values] for each in recorded.windows] == [
        [bits(v) for v in each.values] for each in again.windows
    ]
    assert [each.outcomes for each in recorded.windows] == [[EventOutcome.TAKEN]] * 3
    failed = run(far(stage))
    assert isinstance(failed.windows, StoreUnavailable)
    assert "closed" in str(failed.windows)
    assert failed.stored == []


def test_a_store_that_fails_does_not_take_the_other_along(tmp_path: Path):
    """With the online store gone the windows are still answered, and the failure is the online store's own."""

    def no_store() -> OnlineStore:
        raise StoreUnavailable("no rows today")

    manifest = swipes_bundle().manifest
    query = RowParser(manifest, Transform(manifest.schema_)).parse(swipe(1, 0)).query
    assert query is not None

    def opened() -> SqliteEvents:
        return SqliteEvents(tmp_path / "events.db", manifest.name, manifest.events, create=True)

    with closing(LocalFeatures(no_store, windows=EventWindows(opened, manifest))) as stage:
        fetched = run(stage.fetch_rows(["u1"], [query]))
    assert isinstance(fetched.stored, StoreUnavailable)
    assert not isinstance(fetched.windows, StoreUnavailable)
    assert fetched.windows[0].recorded


def test_an_event_that_cannot_be_read_degrades_its_rows_alone(tmp_path: Path):
    """A damaged event makes the windows that read it missing and the answer degraded; other cards are as before."""
    file = tmp_path / "events.db"
    manifest = swipes_bundle().manifest
    with closing(SqliteEvents(file, manifest.name, manifest.events, create=True)) as events:
        parsed = RowParser(manifest, Transform(manifest.schema_)).parse(swipe(0, 0)).query
        assert parsed is not None
        events.append("swipes", [parsed.own[0].event._replace(payload=b"\xc1")])
    with swipes_app(file) as served:
        bad, good = run(_each(served, [swipe(1, 1), swipe(2, 2, card="c2", terminal="t2")]))
    assert (bad["degraded"], good["degraded"]) == (True, False)
    assert (bad["recorded"], good["recorded"]) == (True, True)
    assert bad["features"]["card_mean_30d"]["value"] is None


def test_expression_reads_raw_values_not_their_codes():
    """An expression divides what was sent in float64: 0.1 / 0.3 is not what their float32 codes would give."""
    manifest = swipes_bundle().manifest
    transform = Transform(manifest.schema_)

    class Stage:
        async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
            return [None for _ in entities]

        async def fetch_rows(
            self, entities: Sequence[str], queries: Sequence[RowQuery], timeout_s: float = math.inf
        ) -> FetchedRows:
            names = [window.name for window in manifest.windows]
            values = [0.3 if name == "card_mean_30d" else math.nan for name in names]
            return FetchedRows([], [RowWindows(0, values, [0] * len(names)) for _ in queries])

        async def record(self, source: str, events: Sequence[Event], timeout_s: float = math.inf) -> list[EventOutcome]:
            return []

    model, metrics = LocalModel(OnnxModel(swipes_bundle())), GatewayMetrics("r", "swipes", "1")
    path = InferencePipeline(manifest, transform, Stage(), model, metrics)
    row = RowParser(manifest, transform).parse(swipe(1, 0, amount=0.1), "k")
    (prediction,) = run(path.predict([row]))
    assert prediction.computed == (0.1 / 0.3,)
    assert prediction.computed[0] != float(np.float32(0.1)) / float(np.float32(0.3))
