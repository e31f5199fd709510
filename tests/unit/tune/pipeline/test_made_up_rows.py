"""What a bundle shows is made up: no row of a table, no rare word; and its probe still tells one model from another."""

from __future__ import annotations

import functools
import json

import numpy as np
import pyarrow as pa
import pytest
import xgboost

from data.errors import BundleError
from data.schema.features.feature import Feature, FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.schema.use_case import UseCase
from data.transform.encoding import Transform
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.protocol.openapi import example
from ray_app.protocol.pages import build_pages
from tests.support.training.models import card_bundle, card_table, train_bundle
from tests.support.training.stored_cards import stored_cards
from tune.pipeline.made_up_rows import LEAST_ROWS_OF_A_WORD, probe_rows, typical_values
from tune.registry.bundle import Bundle

ROWS = 3000
RARE, COMMON = "Jane Roe of Elm Street", "regular customer"


@functools.cache
def private_table() -> pa.Table:
    """Card transactions with a remark, in most rows a name that no other has, and an income to the cent."""
    rng = np.random.default_rng(3)
    remarks = [COMMON if n % 3 == 0 else f"{RARE} {n}" for n in range(ROWS)]
    income = np.round(rng.lognormal(7, 1, ROWS), 2)
    return card_table(ROWS).append_column("remark", pa.array(remarks)).append_column("income", pa.array(income))


@functools.cache
def private_bundle() -> Bundle:
    """A model of that table, with both columns as features."""
    return train_bundle(private_table(), _use_case())


def _use_case() -> UseCase:
    cards = stored_cards()
    added = (Feature(name="remark", type=FeatureType.CATEGORY), Feature(name="income", type=FeatureType.NUMBER))
    return _with_features(cards, (*cards.schema_.features, *added))


def _with_features(use_case: UseCase, features: tuple[Feature, ...]) -> UseCase:
    return UseCase.model_validate({**use_case.model_dump(), "features": {each.name: each for each in features}})


def test_no_probe_row_and_no_example_is_a_row_of_the_table():
    """Neither a probe row nor the example is any row of the table, in whole or as far as a request has it."""
    manifest = private_bundle().manifest
    rows = {tuple(row.values()) for row in private_table().select(manifest.schema_.names).to_pylist()}
    assert not rows & {tuple(row) for row in manifest.probe.rows}
    shown = example(manifest)
    names = [name for name in shown if name != "user_id"]
    assert set(names) >= {"remark", "income", "amount"}
    assert tuple(shown[name] for name in names) not in {
        tuple(row.values()) for row in private_table().select(names).to_pylist()
    }
    assert shown["user_id"] not in private_table().column("user_id").to_pylist()


def test_rare_words_are_on_no_page_and_in_no_probe():
    """Words of fewer rows than a person can hide in are shown nowhere; common ones and the number of all are."""
    manifest = private_bundle().manifest
    probed = json.dumps([manifest.probe.rows, manifest.example])
    pages = build_pages(manifest, "1", 1000, None)
    fixed = {path: page.body.decode() for path, page in pages.items() if "swagger" not in path}
    assert set(fixed) == {"/", "/docs", "/openapi.json", "/model/info"}
    for text in (probed, *fixed.values()):
        assert RARE not in text
    assert COMMON in probed
    assert COMMON in fixed["/openapi.json"]
    remark = next(each for each in json.loads(fixed["/model/info"])["features"] if each["name"] == "remark")
    assert remark["vocabulary"] == [COMMON]
    assert remark["known_words"] == 1000


def test_a_word_is_shown_from_ten_rows_on():
    """A word of ten rows is shown, one of nine is not; a declared vocabulary is shown whole."""
    remarks = ["ten"] * LEAST_ROWS_OF_A_WORD + ["nine"] * (LEAST_ROWS_OF_A_WORD - 1)
    table = card_table(ROWS).append_column("remark", pa.array(remarks + [COMMON] * (ROWS - len(remarks))))
    declared = ("grocery", "electronics", "travel", "clothing", "food", "never seen")
    use_case = _use_case()
    features = tuple(
        each.model_copy(update={"vocabulary": declared}) if each.name == "merchant_category" else each
        for each in use_case.schema_.features
        if each.name != "income"
    )
    manifest = train_bundle(table, _with_features(use_case, features)).manifest
    by_name = {feature.name: manifest.shown_words(feature) for feature in manifest.schema_.features}
    assert by_name["remark"] == (COMMON, "ten")
    assert by_name["merchant_category"] == declared


def test_numbers_are_typical_and_not_somebodys():
    """Numbers are rounded quantiles: none of a high-cardinality column is a value of the table."""
    manifest = private_bundle().manifest
    incomes = typical_values(manifest.schema_, private_table(), {})[manifest.schema_.names.index("income")]
    column = private_table().column("income").to_numpy()
    assert 8 <= len(incomes) <= 19
    assert np.quantile(column, 0.04) <= min(incomes)  # pyright: ignore[reportArgumentType]
    assert max(incomes) <= np.quantile(column, 0.96)  # pyright: ignore[reportArgumentType]
    assert not set(incomes) & set(column.tolist())


def test_every_tree_is_probed_at_several_leaves():
    """The probe rows reach at least two leaves of every tree, and most leaves of all."""
    bundle = card_bundle()
    booster = xgboost.Booster()
    booster.load_model(bytearray(bundle.booster))
    matrix = Transform(bundle.manifest.schema_).rows(bundle.manifest.probe.rows)
    reached = booster.predict(xgboost.DMatrix(matrix), pred_leaf=True)
    frame = booster.trees_to_dataframe()
    leaves = frame[frame.Feature == "Leaf"].groupby("Tree").size().tolist()
    distinct = [len(set(column)) for column in reached.T]
    assert all(found >= min(2, there) for found, there in zip(distinct, leaves, strict=True))
    assert sum(distinct) > sum(leaves) / 2


@pytest.mark.parametrize("name", ["amount", "transaction_hour", "device_trust_score", "merchant_category"])
def test_a_feature_that_is_encoded_otherwise_is_noticed(name: str):
    """A runtime that loses one feature's values scores the probe otherwise, and is refused."""
    bundle = card_bundle()
    at = bundle.manifest.schema_.names.index(name)
    rows = [[None if i == at else value for i, value in enumerate(row)] for row in bundle.manifest.probe.rows]
    probe = bundle.manifest.probe.model_copy(update={"rows": rows})
    with pytest.raises(BundleError, match="probe rows differ"):
        OnnxModel(
            Bundle.assemble(
                bundle.manifest.model_copy(update={"probe": probe}),
                bundle.onnx,
                bundle.booster,
                bundle.measured,
                bundle.card,
            )
        )


def test_probe_rows_have_gaps_extremes_and_unseen_words():
    """Each feature is missing in some row; numbers go beyond any range, and words beyond the vocabulary."""
    schema = card_bundle().manifest.schema_
    rows = probe_rows(schema, typical_values(schema, card_table(), card_bundle().manifest.common_words))
    assert rows == card_bundle().manifest.probe.rows
    assert [None] * len(schema.features) in rows
    for feature, column in zip(schema.features, zip(*rows, strict=True), strict=True):
        assert 1 < column.count(None) < len(column)
        numbers = [value for value in column if isinstance(value, (int, float)) and not isinstance(value, bool)]
        if feature.type is FeatureType.CATEGORY:
            assert "\x00unseen" in column
        elif feature.type is not FeatureType.BOOLEAN:
            assert min(numbers) <= -(2**53)
            assert max(numbers) >= 2**53


def test_a_column_without_values_has_no_typical_one():
    """Of a feature that no row has, the probe has extremes and gaps alone, and the example leaves it to the schema."""
    schema = FeatureSchema(features=(Feature(name="f", type=FeatureType.NUMBER),))
    typical = typical_values(schema, pa.table({"f": pa.nulls(5, pa.float64())}), {})
    assert typical == [[]]
    assert {row[0] for row in probe_rows(schema, typical)} == {None, -1e30, 1e30}
