"""TreeSHAP: contributions that add up to the margin, of the very booster that was exported."""

from __future__ import annotations

import dataclasses
import json
from itertools import chain, combinations
from math import factorial
from typing import Any

import numpy as np
import pytest
import xgboost

from data.errors import BundleError, SchemaMismatch
from data.schema.features.feature import Feature, FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.transform.encoding import FLOAT32_MAX, Transform
from ray_app.inference.explanation.explanation_stage import LEADING
from ray_app.inference.explanation.tree_shap import TreeShap
from ray_app.inference.models.onnx_model import OnnxModel
from tests.support.training.models import card_bundle, card_table


def matrix(rows: int = 2_000) -> np.ndarray:
    """Encoded rows that the model has not seen, one value in ten missing, and extreme ones."""
    found = Transform(card_bundle().manifest.schema_).matrix(card_table(rows, seed=11)).copy()
    rng = np.random.default_rng(3)
    found[rng.random(found.shape) < 0.1] = np.nan
    found[0] = np.nan
    found[1, 0] = FLOAT32_MAX
    return found


def booster() -> xgboost.Booster:
    """The booster of the bundle, as XGBoost itself loads it."""
    loaded = xgboost.Booster()
    loaded.load_model(bytearray(card_bundle().booster))
    return loaded


def margins(rows: np.ndarray) -> np.ndarray:
    """The booster's margins."""
    types = booster().feature_types
    return booster().predict(
        xgboost.DMatrix(rows, feature_types=types, enable_categorical=True, nthread=1), output_margin=True
    )


def test_contributions_add_up_to_the_boosters_margin() -> None:
    """Base value and contributions sum to the margin within 1e-9, and the margin is XGBoost's to the last bit."""
    explained = TreeShap(card_bundle()).explain(matrix())
    assert np.array_equal(explained[:, 1], margins(matrix()).astype(np.float64))
    sums = explained[:, 0] + explained[:, LEADING:].sum(axis=1)
    assert np.abs(sums - explained[:, 1]).max() < 1e-9
    assert len(np.unique(explained[:, 0])) == 1


def test_rounding_moves_no_contribution_by_more_than_float32_does() -> None:
    """What is spread so that the sum is exact is below a millionth of XGBoost's own contributions, row by row."""
    rows, loaded = matrix(), booster()
    data = xgboost.DMatrix(rows, feature_types=loaded.feature_types, enable_categorical=True, nthread=1)
    own = loaded.predict(data, pred_contribs=True)[:, :-1].astype(np.float64)
    moved = np.abs(TreeShap(card_bundle()).explain(rows)[:, LEADING:] - own)
    assert (moved <= 1e-5 * np.abs(own) + 1e-12).all()


def mean_leaf(tree: dict[str, Any], row: np.ndarray, known: frozenset[int], node: int = 0) -> float:
    """A tree's mean over its training rows where of the row only the `known` features are (path-dependent)."""
    left, right = tree["left_children"][node], tree["right_children"][node]
    if left == -1:
        return tree["split_conditions"][node]
    feature = tree["split_indices"][node]
    if feature in known:
        return mean_leaf(tree, row, known, left if goes_left(tree, row[feature], node) else right)
    covers = [tree["sum_hessian"][child] for child in (left, right)]
    means = [mean_leaf(tree, row, known, child) for child in (left, right)]
    return sum(cover * mean for cover, mean in zip(covers, means, strict=True)) / sum(covers)


def goes_left(tree: dict[str, Any], value: Any, node: int) -> bool:
    """Where a node sends a value."""
    if np.isnan(value):
        return bool(tree["default_left"][node])
    if node in tree["categories_nodes"]:
        at = tree["categories_nodes"].index(node)
        start, size = tree["categories_segments"][at], tree["categories_sizes"][at]
        return int(value) not in tree["categories"][start : start + size]
    return bool(value < np.float32(tree["split_conditions"][node]))


def shapley(trees: list[dict[str, Any]], row: np.ndarray) -> list[float]:
    """Shapley values by their definition (Shapley 1953): over all subsets of the other features."""
    width = len(row)
    subsets = [frozenset(c) for c in chain.from_iterable(combinations(range(width), n) for n in range(width + 1))]
    worth = {known: sum(mean_leaf(tree, row, known) for tree in trees) for known in subsets}
    return [
        sum(
            factorial(len(s)) * factorial(width - len(s) - 1) / factorial(width) * (worth[s | {i}] - worth[s])
            for s in subsets
            if i not in s
        )
        for i in range(width)
    ]


def test_contributions_are_shapley_values() -> None:
    """Rows with categories and missing values have the values that Shapley's definition gives, subset by subset."""
    trees = json.loads(booster().save_raw("json"))["learner"]["gradient_booster"]["model"]["trees"]
    rows = matrix(200)[[2, 3, 5, 8]]
    found = TreeShap(card_bundle()).explain(rows)[:, LEADING:]
    assert found.tolist() == [pytest.approx(shapley(trees, row), abs=1e-5) for row in rows]


def test_the_margin_ranks_rows_as_the_calibrated_answer_does() -> None:
    """Calibration rises with the margin: no row with a higher margin has a lower probability."""
    rows = matrix()
    order = np.argsort(TreeShap(card_bundle()).explain(rows)[:, 1])
    assert card_bundle().manifest.calibration.value != "none"
    assert np.diff(OnnxModel(card_bundle()).score(rows)[order, 0]).min() > -1e-6


def test_a_row_is_explained_alike_alone_and_among_others() -> None:
    """Contributions do not depend on the rows beside them, to the last bit; no rows are explained by no rows."""
    explainer, rows = TreeShap(card_bundle()), matrix(50)
    together = explainer.explain(rows)
    assert np.array_equal(np.concatenate([explainer.explain(row[None]) for row in rows]), together)
    assert explainer.explain(rows[:0]).shape == (0, LEADING + 8)
    assert explainer.rows == 100


def test_what_is_not_the_models_booster_is_refused() -> None:
    """A damaged booster, and one of other features than the schema's, do not load; nor is a short row explained."""
    bundle = card_bundle()
    with pytest.raises(BundleError, match="the booster does not load"):
        TreeShap(dataclasses.replace(bundle, booster=bundle.booster[:100]))
    features = (*bundle.manifest.schema_.features, Feature(name="one_more", type=FeatureType.NUMBER))
    wider = bundle.manifest.model_copy(update={"schema_": FeatureSchema(features=features)})
    with pytest.raises(SchemaMismatch, match="booster takes 8 features, schema has 9"):
        TreeShap(dataclasses.replace(bundle, manifest=wider))
    with pytest.raises(SchemaMismatch, match=r"matrix of shape \(1, 7\)"):
        TreeShap(bundle).explain(np.zeros((1, 7), np.float32))


def test_contributions_that_miss_the_margin_are_no_explanation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference that rounding does not account for is an error, and is not spread over the features."""
    explainer = TreeShap(card_bundle())
    own = xgboost.Booster.predict

    def wrong(booster: xgboost.Booster, data: xgboost.DMatrix, **asked: Any) -> np.ndarray:
        return own(booster, data, **asked) + (0.01 if asked.get("output_margin") else 0.0)

    monkeypatch.setattr(xgboost.Booster, "predict", wrong)
    with pytest.raises(BundleError, match=r"contributions miss the margin by 0\.01"):
        explainer.explain(matrix(10))
