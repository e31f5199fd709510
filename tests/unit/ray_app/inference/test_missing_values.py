"""One meaning of missing: null, NaN and '' score alike, whichever way a row comes to the model."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.online_store.row_codec import RowCodec
from data.schema.features.feature import Feature, FeatureType, Source
from data.schema.features.feature_schema import FeatureSchema
from data.transform.encoding import Transform
from ray_app.inference.models.model_scoring import LocalModel
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.inference.pipeline import InferencePipeline
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.protocol.row_parser import RowParser
from tests.support.serving.predict_app import FULL, CountingStage, build_app, manifest, run
from tests.support.training.models import (
    blank_merchants_bundle,
    blank_merchants_table,
    card_table,
    optional_merchants,
    train_bundle,
)
from tune.registry.bundle import Bundle

NAME = "merchant_category"
NOW = 1_700_000_000.0

_WORD = st.none() | st.sampled_from(["", " ", "a", "b", "nan", "0"]) | st.text(max_size=2)
_NUMBER = st.none() | st.just("") | st.floats(-1e30, 1e30) | st.integers(-(2**53), 2**53)
_CATEGORIES = st.fixed_dictionaries(
    {
        "vocabulary": st.sampled_from([("a", "b"), ("b", "", "a"), ("a", " ", "b")]),
        "default": st.sampled_from([None, "a"]),
    },
    optional={"empty": st.just("value")},
).map(lambda declared: Feature(name="f", type=FeatureType.CATEGORY, optional=True, **declared))


def by_http(feature: Feature, value: Any) -> float:
    """What the model sees of a value in a request."""
    transform = Transform(FeatureSchema(features=(feature,)))
    declared = manifest().model_copy(update={"schema_": transform.schema, "entity": None})
    encoded = RowParser(declared, transform).parse({"f": value}).encoded[0]
    return transform.encoders[0].missing if encoded is None else encoded


@given(_CATEGORIES, _WORD)
def test_word_is_encoded_alike_in_column_row_and_request(feature: Feature, word: str | None):
    """Any word, '' and null give the model the same from a table, from a single row and from a request."""
    transform = Transform(FeatureSchema(features=(feature,)))
    seen = transform.matrix(pa.table({"f": pa.array([word], pa.string())}))
    np.testing.assert_array_equal(seen, transform.rows([[word]]))
    np.testing.assert_array_equal(seen, np.float32([[by_http(feature, word)]]))


@given(st.sampled_from([None, 7.0]), _NUMBER)
def test_number_is_encoded_alike_in_column_row_and_request(default: float | None, number: float | str | None):
    """Any number, '' and null give the model the same from a table, from a single row and from a request."""
    feature = Feature(name="f", type=FeatureType.NUMBER, optional=True, default=default)
    transform = Transform(FeatureSchema(features=(feature,)))
    held = math.nan if number == "" else number
    seen = transform.matrix(pa.table({"f": pa.array([held], pa.float64(), from_pandas=False)}))
    np.testing.assert_array_equal(seen, transform.rows([[number]]))
    np.testing.assert_array_equal(seen, np.float32([[by_http(feature, number)]]))


def pipeline(of: Bundle, stage: CountingStage | None = None) -> InferencePipeline:
    """The path of a bundle over a feature stage."""
    own, metrics = of.manifest, GatewayMetrics("r", of.manifest.name, "1")
    return InferencePipeline(own, Transform(own.schema_), stage, LocalModel(OnnxModel(of)), metrics, lambda: NOW)


def score_of(of: Bundle, **changed: Any) -> tuple[float, float, float]:
    """The score of one row as a table, over HTTP, and as the model gives it for the encoded values."""
    row = {**FULL, **changed}
    table = pa.table({name: pa.array([value], from_pandas=False) for name, value in row.items() if value is not None})
    for name in (name for name, value in row.items() if value is None):
        table = table.append_column(name, pa.nulls(1, pa.string() if name == NAME else pa.float64()))
    sent = {name: None if value != value else value for name, value in row.items()}
    answer = run(build_app(CountingStage(), bundle=of).post(sent)).json()
    transform = Transform(of.manifest.schema_)
    alone = OnnxModel(of).score(transform.rows([[row[name] for name in of.manifest.schema_.names]]))
    return run(pipeline(of, CountingStage()).score_table(table)).item(), answer["probability"], alone.item()


def test_null_and_empty_text_have_one_score():
    """Where '' is missing, a table, a request and the bare model give one score for '' and null, bit for bit."""
    of = blank_merchants_bundle("missing")
    assert "" not in (of.manifest.schema_.features[of.manifest.schema_.names.index(NAME)].vocabulary or ())
    scores = {*score_of(of, **{NAME: None}), *score_of(of, **{NAME: ""})}
    assert len(scores) == 1


def test_empty_text_that_is_a_value_has_a_score_of_its_own():
    """Where '' is declared a value, all three agree on its score, which is not that of null once null was learned."""
    table = blank_merchants_table()
    words = table.column(NAME).to_pylist()
    some_null = pa.array([None if word and at % 7 == 0 else word for at, word in enumerate(words)])
    table = table.set_column(table.column_names.index(NAME), NAME, some_null)
    of = train_bundle(table, optional_merchants(empty="value"))
    (empty,), (null,) = {*score_of(of, **{NAME: ""})}, {*score_of(of, **{NAME: None})}
    assert empty != null


@pytest.mark.parametrize("missing", [None, math.nan])
def test_missing_number_has_one_score(missing: float | None):
    """Null and NaN of a number that the store may hold are one missing value, in a table as in a request."""
    assert len({*score_of(blank_merchants_bundle("missing"), device_trust_score=missing)}) == 1


@pytest.mark.parametrize(
    ("empty", "stored", "shown"),
    [
        ("missing", None, {"value": None, "source": "default"}),
        ("missing", "food", {"value": "food", "source": "online"}),
        ("value", "food", {"value": "", "source": "request"}),
    ],
)
def test_empty_value_is_left_to_the_store(empty: str, stored: str | None, shown: dict[str, Any]):
    """'' sent or in a table is left to the store, else to the default, as the answer says, unless it is a value."""
    use_case = optional_merchants(
        empty=empty, source=Source.EITHER, vocabulary=["food", ""] if empty == "value" else ["food"]
    )
    schema = use_case.schema_
    of = train_bundle(card_table(600), use_case, rounds=2)
    payload = RowCodec(schema).pack(int(time.time() * 1e6), [stored if f.name == NAME else 1 for f in schema.online])
    stage = CountingStage({"u1": payload})
    served = build_app(stage, bundle=of)
    answer = run(served.post({**FULL, NAME: ""}, "/predict?detail=1")).json()
    assert answer["features"][NAME] == shown
    table = pa.table({name: [value] for name, value in {**FULL, NAME: ""}.items()})
    assert run(pipeline(of, stage).score_table(table)).tolist() == [[answer["probability"]]]


@pytest.mark.parametrize("name", ["amount", "foreign_transaction", NAME])
def test_empty_text_for_a_required_feature_is_refused_as_null_is(name: str):
    """'' for a feature that the request must have is refused with the words of a null, a number's too."""
    answers = [run(build_app(CountingStage()).post({**FULL, name: value})) for value in ("", None)]
    assert [answer.status_code for answer in answers] == [422, 422]
    said = [answer.json()["errors"] for answer in answers]
    assert said[0] == said[1] == [{"field": name, "reason": "is required"}]
