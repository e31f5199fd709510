"""The ONNX model against the booster it came from."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnxmltools.convert import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from data.errors import BundleError
from data.transform.encoding import FLOAT32_MAX
from tune.training.onnx_export import OnnxScorer, adversarial_rows, to_onnx, verify_parity

WIDTH = 5


def trained(rounds=30, label=None, **params):
    """A booster on rows with missing values, and the rows."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(1500, WIDTH)).astype(np.float32)
    x[:, 1] = rng.integers(0, 6, 1500)
    x[rng.random(x.shape) < 0.15] = np.nan
    y = (np.nan_to_num(x[:, 0]) + (x[:, 1] == 2) + rng.normal(size=1500) > 2) if label is None else label
    settings_ = {"objective": "binary:logistic", "tree_method": "hist", "nthread": 1, "verbosity": 0, **params}
    return xgboost.train(settings_, xgboost.DMatrix(x, np.asarray(y, np.uint8)), rounds), x


BOOSTER, ROWS = trained()
SCORER = OnnxScorer(to_onnx(BOOSTER))


@settings(deadline=None)
@given(arrays(np.float32, (4, WIDTH), elements=st.floats(width=32, allow_infinity=False)))
def test_any_row_scores_as_the_booster_does(rows):
    """NaN, zeros, tiny and huge numbers: ONNX and booster agree to 1e-6."""
    assert SCORER.probabilities(rows) == pytest.approx(BOOSTER.inplace_predict(rows), abs=1e-6)


@pytest.mark.parametrize(
    "params", [{}, {"base_score": 0.01}, {"max_depth": 1}, {"num_parallel_tree": 3}, {"grow_policy": "lossguide"}]
)
def test_parity_holds_for_every_kind_of_tree(params):
    """Fitted and given base scores, stumps, forests and leaf-wise trees are exported exactly."""
    booster, x = trained(**params)
    assert verify_parity(booster, to_onnx(booster), x) < 1e-6


def test_sliced_booster_is_exported_to_its_last_round():
    """A booster cut to its best round gives an ONNX model of as many rounds."""
    cut = BOOSTER[:4]
    assert OnnxScorer(to_onnx(cut)).probabilities(ROWS) == pytest.approx(cut.inplace_predict(ROWS), abs=1e-6)


def test_output_is_one_probability_a_row():
    """The scorer gives float32 of shape (n,), also for one row and for none."""
    for count in (0, 1, 7):
        found = SCORER.probabilities(ROWS[:count])
        assert (found.shape, found.dtype) == ((count,), np.float32)


def test_tree_without_splits_keeps_the_base_score():
    """Labels that nothing explains make trees of one leaf: ours exports them right, onnxmltools does not.

    This is why the project has a converter of its own.
    """
    booster, x = trained(rounds=1, min_child_weight=1e9, reg_lambda=1e9, base_score=0.2)
    assert verify_parity(booster, to_onnx(booster), x) < 1e-6
    model = xgboost.XGBClassifier()
    model.load_model(booster.save_raw("ubj"))
    theirs = convert_xgboost(model, initial_types=[("features", FloatTensorType([None, WIDTH]))])
    margin = [a.floats[0] for n in theirs.graph.node for a in n.attribute if a.name == "base_values"]
    assert margin == pytest.approx([0.2], abs=1e-3), "onnxmltools writes the probability where the margin belongs"


def test_difference_is_refused_with_its_size():
    """A model of other rounds is not the booster's: refused, with the largest difference and a row."""
    with pytest.raises(BundleError, match=r"differ by 0\.\d+ in probability \(allowed: 1e-05\)"):
        verify_parity(BOOSTER, to_onnx(BOOSTER[:10]), ROWS)


def test_adversarial_rows_straddle_every_threshold():
    """Each split's threshold and both its float neighbours are among the rows, and so are the extremes."""
    rows = adversarial_rows(BOOSTER, ROWS)
    first = BOOSTER.trees_to_dataframe().query("Feature != 'Leaf'").iloc[0]
    column, threshold = int(first["Feature"][1:]), np.float32(first["Split"])
    for value in (threshold, np.nextafter(threshold, np.float32(9e9)), np.nextafter(threshold, np.float32(-9e9))):
        assert value in rows[:, column]
    assert np.isnan(rows).all(axis=1).any()
    assert {np.float32(FLOAT32_MAX), np.float32(-FLOAT32_MAX)} <= set(rows[:, 0])


def test_other_objectives_are_refused():
    """Only the kind of booster that the project trains is exported."""
    booster, _ = trained(rounds=2, objective="reg:squarederror")
    with pytest.raises(BundleError, match="reg:squarederror"):
        to_onnx(booster)
