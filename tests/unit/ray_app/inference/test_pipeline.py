"""The inference path: where each value comes from, and that the score is the model's on exactly those values."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data.errors import DataError, DeadlineExceeded, StoreUnavailable
from data.online_store.row_codec import RowCodec
from data.schema.feature_schema import FeatureSchema, Scalar, Source
from data.schema.use_case import Entity, load_use_case
from data.transform.encoding import Transform
from ray_app.inference.model_scoring import LocalModel
from ray_app.inference.onnx_model import OnnxModel
from ray_app.inference.pipeline import InferencePipeline
from ray_app.inference.stages import FeatureStage
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.prediction import Prediction
from ray_app.protocol.row_parser import RowParser
from tests.support.serving.metrics import samples, text
from tests.support.serving.predict_app import (
    FULL,
    ROW,
    STORED,
    CountingStage,
    DownStage,
    card_bundle,
    local_store,
    manifest,
    run,
    write_store,
)
from tests.support.training.models import card_table, train_bundle
from tune.registry.bundle import Bundle

NOW = 1_700_000_000.0
TTL_S = 365 * 86_400


@functools.cache
def model() -> OnnxModel:
    """The loaded model."""
    return OnnxModel(card_bundle())


def inference(
    features: FeatureStage | None,
    bundle: Bundle | None = None,
    now: float = NOW,
    metrics: GatewayMetrics | None = None,
) -> InferencePipeline:
    """The path over a feature stage, at a fixed time."""
    declared = (bundle or card_bundle()).manifest
    onnx = model() if bundle is None else OnnxModel(bundle)
    metrics = metrics or GatewayMetrics("r", declared.name, "1")
    return InferencePipeline(declared, Transform(declared.schema_), features, LocalModel(onnx), metrics, lambda: now)


def lookup_failures(metrics: GatewayMetrics) -> dict[str, float]:
    """Keys whose look-up failed, by reason."""
    return {
        labels.removeprefix("reason="): value
        for (name, labels), value in samples(text(metrics.registry)).items()
        if name == "rayscore_lookup_failures_total"
    }


def predict(path: InferencePipeline, *items: dict[str, Any]) -> list[Prediction]:
    """Parse and predict."""
    parser = RowParser(manifest(), Transform(manifest().schema_))
    return run(path.predict([parser.parse(item) for item in items]))


def expected(**values: Scalar | None) -> float:
    """The model's score of raw values, without any of the serving path."""
    schema = manifest().schema_
    matrix = Transform(schema).rows([[values.get(name) for name in schema.names]])
    return float(model().score(matrix)[0])


def stored(age_s: float = 60.0, **entities: Mapping[str, Scalar | None]) -> CountingStage:
    """A store that holds the entities."""
    codec = RowCodec(manifest().schema_)
    event_us = int((NOW - age_s) * 1e6)
    return CountingStage(
        {key: codec.pack(event_us, [row.get(name) for name in codec.names]) for key, row in entities.items()}
    )


def test_request_goes_before_store_and_store_before_default():
    """Of a feature that either side may hold, the request's value is used, else the store's, else none."""
    stage = stored(u1={"device_trust_score": 10, "velocity_last_24h": 7})
    (prediction,) = predict(inference(stage), {**ROW, "device_trust_score": 80})
    seen = {**ROW, "device_trust_score": 80, "velocity_last_24h": 7, "cardholder_age": None}
    assert prediction.probability == expected(**seen)
    assert prediction.stored == 1
    assert prediction.lookup.found is True
    assert prediction.lookup.age_s == pytest.approx(60)
    assert prediction.probability != expected(**{**seen, "device_trust_score": 10})


def test_zeros_of_request_and_store_are_values():
    """A zero, sent or stored, is scored as zero and not as a missing value."""
    zeros = {"device_trust_score": 0, "velocity_last_24h": 0, "cardholder_age": 0}
    full = {**ROW, "transaction_hour": 0, **zeros}
    sent, read = predict(inference(stored(u2=zeros)), full, {**ROW, "user_id": "u2", "transaction_hour": 0})
    assert sent.probability == read.probability == expected(**full)
    assert sent.probability != expected(**{**full, "device_trust_score": None})


def test_store_is_not_asked_when_the_request_has_everything():
    """A row that leaves nothing open costs no look-up, also beside one that does."""
    stage = stored(u2=STORED)
    first, second = predict(inference(stage), FULL, {**ROW, "user_id": "u2"})
    assert stage.asked == [["u2"]]
    assert first.lookup.found is None
    assert first.lookup.degraded is False
    assert second.lookup.found is True
    predict(inference(stage), FULL)
    assert stage.asked == [["u2"]]


@pytest.mark.parametrize(("age_s", "used"), [(TTL_S - 1, True), (TTL_S + 1, False)])
def test_row_past_its_time_to_live_is_not_used(age_s: float, used: bool):
    """A stored row counts until its time to live after the event time is over, and not a second longer."""
    (prediction,) = predict(inference(stored(age_s, u1=STORED)), ROW)
    assert prediction.lookup.found is used
    assert prediction.probability == expected(**ROW, **(STORED if used else {}))
    assert (prediction.lookup.age_s is not None) is used


def test_unknown_entity_is_answered_from_request_and_defaults():
    """An entity that the store does not know is answered, and said so."""
    (prediction,) = predict(inference(stored(u2=STORED)), ROW)
    assert prediction.lookup.found is False
    assert prediction.lookup.degraded is False
    assert prediction.probability == expected(**ROW)


def test_an_entity_is_asked_for_once_a_batch():
    """Rows of one entity share its stored row, and the order of the answers is that of the rows."""
    stage = stored(u1={"device_trust_score": 10, "velocity_last_24h": 7}, u2={"device_trust_score": 90})
    predictions = predict(inference(stage), ROW, {**ROW, "user_id": "u2"}, ROW)
    assert stage.asked == [["u1", "u2"]]
    assert [p.lookup.online.values[0] if p.lookup.online else None for p in predictions] == [10, 90, 10]


def test_failing_store_degrades_the_answer():
    """Without the store every row is answered; only those that needed it are marked."""
    needing, full = predict(inference(DownStage()), ROW, FULL)
    assert needing.lookup.degraded is True
    assert needing.lookup.found is None
    assert needing.probability == expected(**ROW)
    assert full.lookup.degraded is False
    assert full.probability == expected(**FULL)


def test_payload_of_another_layout_is_no_row():
    """Bytes that another version wrote are taken as an absent row, never misread."""
    (prediction,) = predict(inference(CountingStage({"u1": b"\x00" * 64})), ROW)
    assert prediction.lookup.found is False
    assert prediction.probability == expected(**ROW)


def test_damaged_stored_row_is_degraded_alone(caplog: pytest.LogCaptureFixture):
    """A stored row cut short costs only its own row the stored values; it is counted each time and logged once."""
    whole = stored(u2=STORED).payloads["u2"]
    metrics = GatewayMetrics("r", "m", "1")
    path = inference(CountingStage({"u1": whole[:-3], "u2": whole}), metrics=metrics)
    for _ in range(2):
        damaged, beside = predict(path, ROW, {**ROW, "user_id": "u2"})
        assert (damaged.lookup.degraded, damaged.lookup.found) == (True, None)
        assert damaged.probability == expected(**ROW)
        assert (beside.lookup.degraded, beside.lookup.found) == (False, True)
        assert beside.probability == expected(**{**ROW, **STORED})
    assert lookup_failures(metrics) == {"store_unavailable": 0, "stage_error": 0, "damaged_row": 2}
    named = [record.getMessage() for record in caplog.records if "'u1'" in record.getMessage()]
    assert len(named) == 1
    assert "materialize it again" in named[0]


def test_store_full_of_damaged_rows_does_not_fill_the_log(caplog: pytest.LogCaptureFixture):
    """Of very many damaged rows the log names the first few; all are answered and counted."""
    users = [f"u{i}" for i in range(200)]
    metrics = GatewayMetrics("r", "m", "1")
    path = inference(CountingStage(dict.fromkeys(users, b"")), metrics=metrics)
    predictions = predict(path, *({**ROW, "user_id": user} for user in users))
    assert all(prediction.lookup.degraded for prediction in predictions)
    assert lookup_failures(metrics)["damaged_row"] == len(users)
    assert 1 <= len(caplog.records) <= 20


class BrokenStage:
    """A feature stage with a fault: it returns a row too few, or raises what nobody foresaw."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Fail."""
        if self._error is not None:
            raise self._error
        return [None] * (len(entities) - 1)


@pytest.mark.parametrize("error", [KeyError("nobody foresaw this"), None])
def test_unforeseen_failure_of_the_feature_stage_degrades(error: Exception | None, caplog: pytest.LogCaptureFixture):
    """A fault in the feature stage degrades the rows that needed it, counted, with one traceback in the log."""
    metrics = GatewayMetrics("r", "m", "1")
    path = inference(BrokenStage(error), metrics=metrics)
    for _ in range(2):
        needing, full = predict(path, ROW, FULL)
        assert needing.lookup.degraded is True
        assert needing.probability == expected(**ROW)
        assert full.lookup.degraded is False
    assert lookup_failures(metrics) == {"store_unavailable": 0, "stage_error": 2, "damaged_row": 0}
    (record,) = caplog.records
    assert record.exc_info is not None


def test_table_with_a_damaged_stored_row_names_it():
    """Batch scoring is never degraded: a damaged stored row ends it with an error that names the entity."""
    table = pa.table({name: [value] for name, value in ROW.items()})
    stage = CountingStage({"u1": stored(u1=STORED).payloads["u1"][:-1]})
    with pytest.raises(DataError, match=r"entity 'u1': .*materialize it again"):
        run(inference(stage).score_table(table))


def test_unseen_category_scores_as_missing():
    """A word that is not in the vocabulary scores as no word at all."""
    (prediction,) = predict(inference(None), {**FULL, "merchant_category": "zeppelins"})
    assert prediction.probability == expected(**{**FULL, "merchant_category": None})


def test_scores_equal_transform_and_model_bit_for_bit():
    """Any number of rows through the path score exactly as the transform and the model say, in order."""
    table = card_table(500, seed=11)
    names = ["user_id", *manifest().schema_.names]
    items = table.select(names).to_pylist()
    scores = [prediction.probability for prediction in predict(inference(None), *items)]
    matrix = Transform(manifest().schema_).matrix(table)
    assert scores == model().score(matrix).tolist()


def test_answers_do_not_depend_on_the_batch(tmp_path: Path):
    """A row scores the same bits alone and among others, with values from a real store."""
    items = [{**ROW, "user_id": f"u{i % 7}", "amount": i / 3} for i in range(100)]
    file = write_store(tmp_path / "online.db", {f"u{i}": {**STORED, "cardholder_age": 20 + i} for i in range(5)})
    features = local_store(file)
    try:
        path = inference(features, now=time.time())
        together = [p.probability for p in predict(path, *items)]
        assert together == [predict(path, item)[0].probability for item in items]
    finally:
        features.close()


def test_use_case_without_entity():
    """A use case without entity and store is scored from the request alone."""
    use_case = load_use_case("card_fraud")
    alone = {name: f.model_copy(update={"source": Source.REQUEST}) for name, f in use_case.features.items()}
    bundle = train_bundle(card_table(600), use_case.model_copy(update={"entity": None, "features": alone}), rounds=3)
    transform = Transform(bundle.manifest.schema_)
    row = RowParser(bundle.manifest, transform).parse({k: v for k, v in FULL.items() if k != "user_id"})
    (prediction,) = run(inference(None, bundle).predict([row]))
    matrix = transform.rows([[FULL[name] for name in bundle.manifest.schema_.names]])
    assert prediction.probability == float(OnnxModel(bundle).score(matrix)[0])
    assert prediction.lookup.found is None


def test_declared_default_takes_the_place_of_an_absent_value():
    """A feature that neither request nor store has is scored as its declared default."""
    schema = manifest().schema_
    changed = tuple(
        f.model_copy(update={"default": 55}) if f.name == "device_trust_score" else f for f in schema.features
    )
    declared = manifest().model_copy(update={"schema_": FeatureSchema(features=changed)})
    transform = Transform(declared.schema_)
    path = InferencePipeline(declared, transform, stored(), LocalModel(model()), GatewayMetrics("r", "m", "1"))
    (prediction,) = run(path.predict([RowParser(declared, transform).parse(ROW)]))
    assert prediction.probability == expected(**ROW, device_trust_score=55)


def test_table_is_never_degraded():
    """A table that needs a store which fails is refused: a batch with silent defaults would be worse than none."""
    table = pa.table({name: [value] for name, value in ROW.items()})
    with pytest.raises(StoreUnavailable, match="no store today"):
        run(inference(DownStage()).score_table(table))


def test_table_without_a_required_column():
    """A table that lacks a required feature is refused by the column's name."""
    table = pa.table({name: [value] for name, value in FULL.items() if name != "amount"})
    with pytest.raises(DataError, match="column 'amount' is missing"):
        run(inference(None).score_table(table))


def test_table_asks_the_store_for_open_rows_only():
    """Of a table only the rows with a null in an online column are looked up."""
    table = pa.table({name: [value, value, value] for name, value in FULL.items()})
    table = table.set_column(table.column_names.index("user_id"), "user_id", pa.array(["u1", "u2", None]))
    at = table.column_names.index("velocity_last_24h")
    table = table.set_column(at, "velocity_last_24h", pa.array([5, None, None]))
    stage = stored(u2=STORED)
    scores = run(inference(stage).score_table(table))
    assert stage.asked == [["u2", ""]]
    values = [5, STORED["velocity_last_24h"], None]
    assert scores.tolist() == [expected(**{**FULL, "velocity_last_24h": value}) for value in values]
    assert scores.dtype == np.float32


def test_table_asks_for_keys_as_requests_do():
    """Of an integer entity a table asks for the keys that a request can send: 17, from text and whole numbers alike."""
    declared = manifest().model_copy(update={"entity": Entity(column="user_id", type="integer")})
    stage = stored()
    path = InferencePipeline(
        declared, Transform(declared.schema_), stage, LocalModel(model()), GatewayMetrics("r", "m", "1")
    )
    for users in (["17", "018", " "], [17.0, None, 1.5]):
        table = pa.table({"user_id": users, **{name: [ROW[name]] * 3 for name in ROW if name != "user_id"}})
        run(path.score_table(table))
        assert stage.asked.pop() == ["17", "", ""]


def test_spent_time_is_not_spent_on_the_model():
    """Rows whose callers have no time left are not scored."""
    row = RowParser(manifest(), Transform(manifest().schema_)).parse(FULL)
    with pytest.raises(DeadlineExceeded):
        run(inference(None).predict([row], 0.0))


def test_slow_store_leaves_half_of_the_time_to_the_model():
    """A store slower than half of the caller's time costs the online values, not the answer."""

    class Slow:
        async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
            self.allowed = timeout_s
            raise StoreUnavailable("too slow")

    slow = Slow()
    row = RowParser(manifest(), Transform(manifest().schema_)).parse(ROW)
    (prediction,) = run(inference(slow).predict([row], 4.0))
    assert slow.allowed == 2.0
    assert prediction.lookup.degraded
