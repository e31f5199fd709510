"""Derived features end to end: HTTP, batch scoring, both skew proofs and training compute the same bits."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.distributed.pieces import each_block_here, parquet_pieces
from data.schema.features.feature_schema import FeatureSchema
from data.settings import Settings
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source
from data.transform.encoding import Transform
from ray_app.batch.scoring import part_name, plan, refused_name, score_rows
from ray_app.inference.models.model_scoring import LocalModel
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.inference.pipeline import InferencePipeline
from ray_app.loadtest.request_bodies import bodies
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.prediction_log.log import LogOptions, PredictionLog, Sampling
from ray_app.protocol.openapi import example, openapi
from tests.support.serving.predict_app import VERSION, build_app, run
from tests.support.training.models import times_bundle, times_table
from tests.support.training.scored_tables import scored_here
from tests.support.training.skew import listening
from tune.skew.http_replay import ReplayPace, prove
from tune.skew.log_replay import prove_log
from tune.skew.replay_requests import ReplayRequests
from tune.skew.service_client import ServiceClient

ROWS = 300
ROW: dict[str, Any] = {"amount": 12.5, "timestamp": "2024-06-10T14:30:00+02:00", "opened": "2024-06-09"}


def ask(*rows: dict[str, Any], path: str = "/predict") -> Any:
    """What the service answers to the rows."""
    return run(build_app(bundle=times_bundle()).post(list(rows), path)).json()


def refused(row: dict[str, Any]) -> list[dict[str, str]]:
    """The errors of one row, which is answered with 422."""
    answer = run(build_app(bundle=times_bundle()).post(row))
    assert answer.status_code == 422
    return answer.json()["errors"]


def test_http_table_and_batch_scoring_give_the_same_bits(tmp_path: Path) -> None:
    """Each row of a table is scored alike by a request, by `score_table` and by a job of `score`."""
    table, bundle = times_table(ROWS, seed=3), times_bundle()
    _, sent = ReplayRequests(table, bundle.manifest).slice(0, ROWS)
    online = [each["probability"] for each in ask(*(each.body or {} for each in sent))]
    pipeline = InferencePipeline(
        bundle.manifest,
        Transform(bundle.manifest.schema_),
        None,
        LocalModel(OnnxModel(bundle)),
        GatewayMetrics("batch", "new_cards", VERSION),
    )
    assert asyncio.run(pipeline.score_table(table))[:, 0].tolist() == online
    assert scored(table, tmp_path).column("probability").to_pylist() == online


def scored(table: pa.Table, folder: Path) -> pa.Table:
    """What `score` writes of a table."""
    write_table(table, folder / "in.parquet")
    source = open_source(folder / "in.parquet")
    (folder / "out").mkdir()
    job = plan(Settings(), times_bundle(), VERSION, scored_here(source, folder), folder / "out")
    done = dict(each_block_here(parquet_pieces(source, job.columns), partial(score_rows, job=job)))
    return pa.concat_tables([pq.read_table(folder / "out" / part_name(first)) for first in sorted(done)])


def test_values_used_are_the_derived_numbers_in_utc() -> None:
    """A zone is taken into account, and a missing time leaves what is derived from it missing."""
    full, without = ask(ROW, {**ROW, "opened": " "}, path="/predict?detail=1")
    used = {name: (each["value"], each["source"]) for name, each in full["features"].items()}
    assert used == {
        "amount": (12.5, "request"),
        "hour": (12, "request"),
        "opened_weekday": (6, "request"),
        "opened_age": (1.5208333333333333, "request"),
    }
    assert without["features"]["opened_age"] == {"value": None, "source": "default"}
    assert without["features"]["hour"] == {"value": 12, "source": "request"}


@pytest.mark.parametrize(
    "time", ["2024-06-10 12:30", 1_718_022_600, 1_718_022_600_000, "2024-06-10T12:30:00.000000000Z"]
)
def test_one_moment_in_any_spelling_gets_one_answer(time: Any) -> None:
    """Strings without zone are in UTC, and whole numbers are read by their size."""
    one, other = ask(ROW, {**ROW, "timestamp": time})
    assert one["probability"] == other["probability"]


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        (
            {"timestamp": "soon"},
            "timestamp",
            "expected a time: ISO 8601 such as 2024-05-31T14:30:00Z, or a whole number since 1970; got 'soon'",
        ),
        (
            {"opened": 1.5},
            "opened",
            "expected a time: ISO 8601 such as 2024-05-31T14:30:00Z, or a whole number since 1970; got the number 1.5",
        ),
        ({"timestamp": None}, "timestamp", "is required"),
        ({"hour": 3}, "hour", "is derived by the service; send 'timestamp' instead"),
        ({"opened_age": 3}, "opened_age", "is derived by the service; send 'opened' and 'timestamp' instead"),
        ({"opened": "2024-06-20"}, "opened_age", "-9.479166666666666 is below the smallest accepted value -1"),
    ],
)
def test_what_cannot_be_derived_is_refused_with_the_field_at_fault(
    changes: dict[str, Any], field: str, reason: str
) -> None:
    """The time that is wrong or missing is named once, however many features come from it."""
    assert refused({**ROW, **changes}) == [{"field": field, "reason": reason}]


def test_scoring_refuses_the_rows_that_http_refuses(tmp_path: Path) -> None:
    """A text that is no time, a missing required time and a derived number out of range are counted by reason."""
    rows = [ROW, {**ROW, "opened": "soon"}, {**ROW, "timestamp": None}, {**ROW, "opened": "2024-06-20"}]
    table = scored(pa.Table.from_pylist(rows), tmp_path)
    assert table.num_rows == 1
    reasons = pq.read_table(tmp_path / "out" / refused_name(0)).column("reasons").to_pylist()
    assert reasons == [
        "opened: not a time",
        "timestamp: missing",
        "opened_age: below the smallest accepted value -1",
    ]
    assert ["error" in each for each in ask(*rows)] == [False, True, True, True]


def test_a_table_without_an_optional_time_is_scored_as_a_request_without_it(tmp_path: Path) -> None:
    """The features that are derived from it are missing."""
    table = pa.Table.from_pylist([{"amount": 12.5, "timestamp": "2024-06-10"}])
    expected = ask({"amount": 12.5, "timestamp": "2024-06-10"})
    assert scored(table, tmp_path).column("probability").to_pylist() == [expected[0]["probability"]]


def test_a_service_is_proven_over_http_and_by_its_log(tmp_path: Path) -> None:
    """Derived values, vectors and scores are those of training, whatever spelling was sent."""
    log = PredictionLog("gateway-1", times_bundle().manifest, LogOptions(tmp_path / "log", Sampling(1.0, 0.0)))
    app = build_app(bundle=times_bundle(), observers=[log]).app
    with listening(app) as url:
        service = ServiceClient(url, VERSION)
        live = prove(times_bundle(), times_table(ROWS), service, ReplayPace(ROWS, 1e6))
        service.close()
    log.close()
    logged = prove_log(times_bundle(), VERSION, tmp_path / "log", ROWS)
    for proof in (live, logged):
        assert (proof.compared, proof.differing, proof.refused) == (ROWS, 0, 0)
        assert proof.fields == {"request": ROWS * 4 - ROWS // 10 * 2, "default": ROWS // 10 * 2}


def test_the_document_asks_for_times_and_its_example_is_answered() -> None:
    """The times are fields, with what is derived from them; derived features are none."""
    manifest = times_bundle().manifest
    row = openapi(manifest, VERSION, 10)["components"]["schemas"]["Row"]
    assert set(row["properties"]) == {"amount", "timestamp", "opened", "transaction_id"}
    assert row["required"] == ["amount", "timestamp"]
    assert row["properties"]["opened"]["nullable"]
    assert row["properties"]["opened"]["description"].endswith("Derived from it: opened_weekday, opened_age.")
    assert "probability" in ask(example(manifest))[0]


def test_a_load_test_sends_the_times_of_a_table(tmp_path: Path) -> None:
    """Timestamps of Parquet become strings that the service reads."""
    write_table(times_table(20).select(["amount", "timestamp", "opened"]), tmp_path / "mix.parquet")
    app = build_app(bundle=times_bundle())
    made = bodies(openapi(times_bundle().manifest, VERSION, 10), tmp_path / "mix.parquet")
    assert len(made) == 20
    assert all(run(app.send(body)).status_code == 200 for body in made)


def test_a_bundle_holds_no_time_of_a_row() -> None:
    """The example's times are beginnings of months, and a bundle without derived features says nothing of them."""
    manifest = times_bundle().manifest
    assert str(manifest.example["timestamp"]).endswith("-01T00:00:00Z")
    assert np.isfinite(manifest.probe.scores).all()


def test_versions_that_derive_otherwise_do_not_serve_together() -> None:
    """What a feature is derived from is part of the contract with clients."""
    manifest = times_bundle().manifest
    moved = [
        feature.model_copy(update={"column": "timestamp"}) if feature.name == "opened_weekday" else feature
        for feature in manifest.schema_.features
    ]
    other = manifest.model_copy(update={"schema_": FeatureSchema(features=tuple(moved))})
    assert manifest.contract != other.contract
    (difference,) = manifest.differences(other)
    assert "weekday of timestamp instead of integer from request, weekday of opened" in difference
