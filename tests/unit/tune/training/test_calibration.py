"""Calibration on the validation rows, and the same inside the ONNX model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import xgboost
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from data.errors import BundleError, TrainingFailed
from data.schema.model_policy import Calibration
from tune.metrics.figures import expected_calibration_error
from tune.metrics.ranking import Ranking
from tune.training.calibration import IsotonicCalibration, PlattCalibration, fit_calibrator
from tune.training.onnx_export import OnnxScorer, to_onnx, verify_parity


def drawn(rows=6000, seed=0):
    """Overconfident margins: the true log-odds are 0.5 * margin - 1."""
    rng = np.random.default_rng(seed)
    margins = rng.normal(-2, 2, rows).astype(np.float32)
    labels = (rng.random(rows) < 1 / (1 + np.exp(1 - 0.5 * margins))).astype(np.uint8)
    return margins, labels


MARGINS, LABELS = drawn()
OTHERS, OTHER_LABELS = drawn(seed=1)


def overconfident():
    """A booster that learned its few rows by heart, and fresh rows with their labels."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(9000, 4)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    y = (rng.random(9000) < 1 / (1 + np.exp(2 - 1.5 * np.nan_to_num(x[:, 0])))).astype(np.uint8)
    params = {"objective": "binary:logistic", "nthread": 1, "max_depth": 8, "verbosity": 0}
    return xgboost.train(params, xgboost.DMatrix(x[:1000], y[:1000]), 40), x[1000:], y[1000:]


BOOSTER, ROWS, TRUTH = overconfident()


@pytest.mark.parametrize("kind", [Calibration.PLATT, Calibration.ISOTONIC])
def test_probabilities_come_to_mean_what_they_say(kind):
    """On rows that the calibrator has not seen, its error is a fraction of the uncorrected one."""
    fitted = fit_calibrator(kind, MARGINS, LABELS)
    before = expected_calibration_error(OTHER_LABELS, 1 / (1 + np.exp(-OTHERS)))
    after = expected_calibration_error(OTHER_LABELS, fitted.probabilities(OTHERS))
    assert before > 0.05
    assert after < before / 3


def test_platt_finds_the_line():
    """The fitted line is the one that the labels were drawn by, and scikit-learn's but for Platt's targets."""
    line = fit_calibrator(Calibration.PLATT, MARGINS, LABELS)
    theirs = LogisticRegression(C=np.inf).fit(MARGINS.reshape(-1, 1), LABELS)
    assert line == pytest.approx((0.5, -1.0), abs=0.1)
    assert line == pytest.approx((theirs.coef_[0, 0], theirs.intercept_[0]), abs=0.01)


def test_platt_of_separable_labels_is_finite():
    """Labels that the margin tells apart perfectly do not make a line of endless slope."""
    line = fit_calibrator(Calibration.PLATT, np.array([-3.0, -2, 2, 3]), np.array([0, 0, 1, 1]))
    assert 0 < line.slope < 5


def test_isotonic_is_near_the_steps_and_never_falls():
    """The curve is scikit-learn's isotonic fit with its steps joined; it rises, and stays off 0 and 1."""
    curve = fit_calibrator(Calibration.ISOTONIC, MARGINS, LABELS)
    steps = IsotonicRegression(out_of_bounds="clip").fit(MARGINS, LABELS)
    grid = np.linspace(-6, 2, 200)
    assert np.abs(curve.probabilities(grid) - steps.predict(grid)).mean() < 0.02
    assert (np.diff(curve.probabilities(grid)) >= 0).all()
    assert 0 < curve.probabilities(np.array([-99.0]))[0] < curve.probabilities(np.array([99.0]))[0] < 1
    assert (np.diff(curve.margins) >= 0.05).all()
    assert len(curve.margins) <= 65


@pytest.mark.parametrize("kind", list(Calibration))
def test_onnx_answers_as_booster_and_calibrator(kind):
    """One graph says what booster and calibrator say together, on hard rows too, and ranks as the booster does."""
    margins = BOOSTER.inplace_predict(ROWS[:4000], predict_type="margin")
    calibrator = fit_calibrator(kind, margins, TRUTH[:4000])
    model = to_onnx(BOOSTER, calibrator)
    assert verify_parity(BOOSTER, model, ROWS, calibrator) < 1e-5
    found = OnnxScorer(model).probabilities(ROWS[4000:])
    plain = OnnxScorer(to_onnx(BOOSTER)).probabilities(ROWS[4000:])
    assert Ranking(TRUTH[4000:], found).auc() == pytest.approx(Ranking(TRUTH[4000:], plain).auc(), abs=2e-3)
    if kind is not Calibration.NONE:
        errors = [expected_calibration_error(TRUTH[4000:], scores) for scores in (found, plain)]
        assert errors[0] < errors[1] / 2


def test_line_costs_no_node():
    """Platt's line scales the leaves: the graph has as many nodes as without it."""
    graphs = [onnx.load_from_string(to_onnx(BOOSTER, each)).graph for each in (None, PlattCalibration(0.5, -1.0))]
    assert [node.op_type for node in graphs[0].node] == [node.op_type for node in graphs[1].node]


def test_wrong_calibrator_is_refused():
    """An ONNX model with another calibration than the one it is checked against is not let through."""
    with pytest.raises(BundleError, match="differ by"):
        verify_parity(BOOSTER, to_onnx(BOOSTER, PlattCalibration(0.5, -1.0)), ROWS, PlattCalibration(0.5, -0.9))


def test_single_piece_is_exact_at_its_ends():
    """A curve of two knots is level outside and straight inside, in ONNX as here."""
    curve = IsotonicCalibration(np.array([-1.0, 1.0]), np.array([0.2, 0.8]))
    assert curve.probabilities(np.array([-5.0, -1.0, 0.0, 1.0, 5.0])) == pytest.approx([0.2, 0.2, 0.5, 0.8, 0.8])
    assert verify_parity(BOOSTER, to_onnx(BOOSTER, curve), ROWS, curve) < 1e-5


@pytest.mark.parametrize("kind", [Calibration.PLATT, Calibration.ISOTONIC])
def test_model_that_ranks_backwards_is_refused(kind):
    """Where higher margins mean less, there is nothing to correct: refused, with the way out."""
    with pytest.raises(TrainingFailed, match=r"no better than chance.*calibration = 'none'"):
        fit_calibrator(kind, -MARGINS, LABELS)
