"""The inference path: where each value comes from, and that the score is the model's on exactly those values."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from data.schema.features.feature import Source
from data.schema.features.feature_schema import FeatureSchema
from data.transform.encoding import Transform
from ray_app.inference.models.model_scoring import LocalModel
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.inference.pipeline import InferencePipeline
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.protocol.row_parser import RowParser
from tests.support.serving.inference_path import (
    TTL_S,
    expected,
    inference,
    model,
    predict,
    stored,
)
from tests.support.serving.predict_app import (
    FULL,
    ROW,
    STORED,
    CountingStage,
    local_store,
    manifest,
    run,
    write_store,
)
from tests.support.training.models import card_table, train_bundle
from tests.support.training.stored_cards import stored_cards


def test_request_goes_before_store_and_store_before_default():
    """Of a feature that either side may hold, the request's value is used, else the store's, else none."""
    stage = stored(u1={"device_trust_score": 10, "velocity_last_24h": 7})
    (prediction,) = predict(inference(stage), {**ROW, "device_trust_score": 80})
    seen = {**ROW, "device_trust_score": 80, "velocity_last_24h": 7, "cardholder_age": None}
    assert prediction.scores == expected(**seen)
    assert prediction.stored == 1
    assert prediction.lookup.found is True
    assert prediction.lookup.age_s == pytest.approx(60)
    assert prediction.scores != expected(**{**seen, "device_trust_score": 10})


def test_zeros_of_request_and_store_are_values():
    """A zero, sent or stored, is scored as zero and not as a missing value."""
    zeros = {"device_trust_score": 0, "velocity_last_24h": 0, "cardholder_age": 0}
    full = {**ROW, "transaction_hour": 0, **zeros}
    sent, read = predict(inference(stored(u2=zeros)), full, {**ROW, "user_id": "u2", "transaction_hour": 0})
    assert sent.scores == read.scores == expected(**full)
    assert sent.scores != expected(**{**full, "device_trust_score": None})


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
    assert prediction.scores == expected(**ROW, **(STORED if used else {}))
    assert (prediction.lookup.age_s is not None) is used


def test_unknown_entity_is_answered_from_request_and_defaults():
    """An entity that the store does not know is answered, and said so."""
    (prediction,) = predict(inference(stored(u2=STORED)), ROW)
    assert prediction.lookup.found is False
    assert prediction.lookup.degraded is False
    assert prediction.scores == expected(**ROW)


def test_an_entity_is_asked_for_once_a_batch():
    """Rows of one entity share its stored row, and the order of the answers is that of the rows."""
    stage = stored(u1={"device_trust_score": 10, "velocity_last_24h": 7}, u2={"device_trust_score": 90})
    predictions = predict(inference(stage), ROW, {**ROW, "user_id": "u2"}, ROW)
    assert stage.asked == [["u1", "u2"]]
    assert [p.lookup.online.values[0] if p.lookup.online else None for p in predictions] == [10, 90, 10]


def test_payload_of_another_layout_is_no_row():
    """Bytes that another version wrote are taken as an absent row, never misread."""
    (prediction,) = predict(inference(CountingStage({"u1": b"\x00" * 64})), ROW)
    assert prediction.lookup.found is False
    assert prediction.scores == expected(**ROW)


def test_unseen_category_scores_as_missing():
    """A word that is not in the vocabulary scores as no word at all."""
    (prediction,) = predict(inference(None), {**FULL, "merchant_category": "zeppelins"})
    assert prediction.scores == expected(**{**FULL, "merchant_category": None})


def test_scores_equal_transform_and_model_bit_for_bit():
    """Any number of rows through the path score exactly as the transform and the model say, in order."""
    table = card_table(500, seed=11)
    names = ["user_id", *manifest().schema_.names]
    items = table.select(names).to_pylist()
    scores = [prediction.scores for prediction in predict(inference(None), *items)]
    matrix = Transform(manifest().schema_).matrix(table)
    assert scores == model().score(matrix).tolist()


def test_answers_do_not_depend_on_the_batch(tmp_path: Path):
    """A row scores the same bits alone and among others, with values from a real store."""
    items = [{**ROW, "user_id": f"u{i % 7}", "amount": i / 3} for i in range(100)]
    file = write_store(tmp_path / "online.db", {f"u{i}": {**STORED, "cardholder_age": 20 + i} for i in range(5)})
    features = local_store(file)
    try:
        path = inference(features, now=time.time())
        together = [p.scores for p in predict(path, *items)]
        assert together == [predict(path, item)[0].scores for item in items]
    finally:
        features.close()


def test_use_case_without_entity():
    """A use case without entity and store is scored from the request alone."""
    use_case = stored_cards()
    alone = {name: f.model_copy(update={"source": Source.REQUEST}) for name, f in use_case.features.items()}
    bundle = train_bundle(card_table(600), use_case.model_copy(update={"entity": None, "features": alone}), rounds=3)
    transform = Transform(bundle.manifest.schema_)
    row = RowParser(bundle.manifest, transform).parse({k: v for k, v in FULL.items() if k != "user_id"})
    (prediction,) = run(inference(None, bundle).predict([row]))
    matrix = transform.rows([[FULL[name] for name in bundle.manifest.schema_.names]])
    assert prediction.scores == OnnxModel(bundle).score(matrix)[0].tolist()
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
    assert prediction.scores == expected(**ROW, device_trust_score=55)
