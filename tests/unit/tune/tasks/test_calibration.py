"""Calibration on rows out of fold, and the same inside the ONNX model."""

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
from tune.tasks.calibration import fit_calibrator
from tune.tasks.calibration_curves import BetaCalibration, IsotonicCalibration, PlattCalibration
from tune.training.onnx_export import OnnxScorer, mean_margins, to_onnx, verify_parity


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
CORRECTING = [kind for kind in Calibration if kind is not Calibration.NONE]


@pytest.mark.parametrize("kind", CORRECTING)
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
    margins = mean_margins([BOOSTER], ROWS[:4000])
    calibrator = fit_calibrator(kind, margins, TRUTH[:4000])
    model = to_onnx([BOOSTER], calibrator)
    assert verify_parity([BOOSTER], model, ROWS, calibrator) < 1e-5
    found = OnnxScorer(model).scores(ROWS[4000:])[:, 0]
    plain = OnnxScorer(to_onnx([BOOSTER])).scores(ROWS[4000:])[:, 0]
    assert Ranking(TRUTH[4000:], found).auc() == pytest.approx(Ranking(TRUTH[4000:], plain).auc(), abs=2e-3)
    if kind is not Calibration.NONE:
        errors = [expected_calibration_error(TRUTH[4000:], scores) for scores in (found, plain)]
        assert errors[0] < errors[1] / 2


def test_line_costs_no_node():
    """Platt's line scales the leaves: the graph has as many nodes as without it."""
    graphs = [onnx.load_from_string(to_onnx([BOOSTER], each)).graph for each in (None, PlattCalibration(0.5, -1.0))]
    assert [node.op_type for node in graphs[0].node] == [node.op_type for node in graphs[1].node]


def test_wrong_calibrator_is_refused():
    """An ONNX model with another calibration than the one it is checked against is not let through."""
    with pytest.raises(BundleError, match="differ by"):
        verify_parity([BOOSTER], to_onnx([BOOSTER], PlattCalibration(0.5, -1.0)), ROWS, PlattCalibration(0.5, -0.9))


def test_single_piece_is_exact_at_its_ends():
    """A curve of two knots is level outside and straight inside, in ONNX as here."""
    curve = IsotonicCalibration(np.array([-1.0, 1.0]), np.array([0.2, 0.8]))
    assert curve.probabilities(np.array([-5.0, -1.0, 0.0, 1.0, 5.0])) == pytest.approx([0.2, 0.2, 0.5, 0.8, 0.8])
    assert verify_parity([BOOSTER], to_onnx([BOOSTER], curve), ROWS, curve) < 1e-5


@pytest.mark.parametrize("kind", list(Calibration))
def test_row_has_the_same_bits_alone_and_among_others(kind):
    """What a micro-batch answers does not depend on which rows happen to be in it, to the last bit."""
    calibrator = fit_calibrator(kind, MARGINS, LABELS)
    scorer = OnnxScorer(to_onnx([BOOSTER], calibrator))
    alone = np.concatenate([scorer.scores(ROWS[at : at + 1])[:, 0] for at in range(500)])
    for size in (3, 7, 50, 500):
        batches = [scorer.scores(ROWS[at : min(at + size, 500)])[:, 0] for at in range(0, 500, size)]
        assert np.array_equal(np.concatenate(batches), alone)


@pytest.mark.parametrize("kind", [Calibration.PLATT, Calibration.BETA, Calibration.ISOTONIC])
def test_model_that_ranks_backwards_is_refused(kind):
    """Where higher margins mean less, there is nothing to correct: refused, with the way out."""
    for margins in (-MARGINS, -MARGINS - 9):
        with pytest.raises(TrainingFailed, match=r"no better than chance.*calibration = 'none'"):
            fit_calibrator(kind, margins, LABELS)


def drawn_by(curve, rows=20_000, seed=3, spread=2.0, center=0.0):
    """Margins, and labels whose log-odds are `curve` of them."""
    rng = np.random.default_rng(seed)
    margins = rng.normal(center, spread, rows)
    return margins, (rng.random(rows) < 1 / (1 + np.exp(-curve(margins)))).astype(np.uint8)


def bent(margins):
    """Log-odds that beta calibration with a = 0.3, b = 2 and c = -0.5 gives."""
    p = 1 / (1 + np.exp(-margins))
    return 0.3 * np.log(p) - 2 * np.log(1 - p) - 0.5


def staircase(margins):
    """Log-odds that rise in steps, which neither a line nor a bent one follows."""
    return np.where(margins < -1, -4, np.where(margins < 1, -1.0, 3.0)) + 0.02 * margins


def test_beta_finds_the_curve():
    """The exponents and the offset that the labels were drawn by come back, and the curve is the paper's formula."""
    curve = fit_calibrator(Calibration.BETA, *drawn_by(bent, 60_000))
    assert curve == pytest.approx((0.3, 2.0, -0.5), abs=0.1)
    margins = np.array([-5.0, -1.0, 0.0, 1.0, 5.0])
    exact = BetaCalibration(0.3, 2.0, -0.5)
    assert exact.probabilities(margins) == pytest.approx(1 / (1 + np.exp(-bent(margins))), rel=1e-12)


def test_beta_holds_at_any_margin():
    """Margins far beyond what a float32 probability can hold give finite, rising probabilities without a warning."""
    margins = np.array([-1e4, -745, -100, -1, 0, 1, 100, 745, 1e4])
    found = BetaCalibration(0.5, 3.0, 0.1).probabilities(margins)
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()
    assert found[0] >= 0
    assert found[-1] == 1


def test_beta_is_bounded_where_rows_say_nothing():
    """Low probabilities alone leave `b` open: it stays near 1, so that a first high margin is not called certain."""
    margins, labels = drawn_by(lambda margins: margins, 4000, spread=1.0, center=-5.0)
    curve = fit_calibrator(Calibration.BETA, margins, labels)
    assert 0 <= curve.b < 8
    assert curve.a == pytest.approx(1, abs=0.3)


def test_negative_exponents_become_zero():
    """Where the best curve falls at one end, that exponent is 0, and the rest is the best of what is allowed."""
    margins, labels = drawn_by(lambda margins: 2 * np.logaddexp(0, margins) + 0.8 * np.logaddexp(0, -margins) - 2)
    curve = fit_calibrator(Calibration.BETA, margins, labels)
    assert curve.a == 0
    assert curve.b > 1
    grid = np.linspace(-8, 8, 100)
    assert (np.diff(curve.probabilities(grid)) >= 0).all()

    def loss(b, c):
        p = BetaCalibration(0.0, b, c).probabilities(margins)
        return -np.log(np.where(labels == 1, p, 1 - p)).sum()

    near = [loss(curve.b + b, curve.c + c) for b in (-0.05, 0, 0.05) for c in (-0.05, 0, 0.05)]
    assert min(near) == loss(curve.b, curve.c)


def test_beta_of_separable_labels_is_finite():
    """Labels that the margin tells apart perfectly do not make endless exponents."""
    curve = fit_calibrator(Calibration.BETA, np.array([-3.0, -2, 2, 3]), np.array([0, 0, 1, 1]))
    assert 0 < curve.a < 5
    assert 0 < curve.b < 5


@pytest.mark.parametrize(
    "curve",
    [
        BetaCalibration(0.3, 2.0, -0.5),
        BetaCalibration(0.0, 3.0, -2.0),
        BetaCalibration(5.0, 0.0, 1.0),
        BetaCalibration(1.0, 1.0, 0.0),
        PlattCalibration(0.5, -1.0),
    ],
)
def test_bags_are_calibrated_as_one_model(curve):
    """The curve is of the mean margin: in ONNX behind a bag as here, also at both ends of beta calibration."""
    bag = [BOOSTER, BOOSTER[:7], BOOSTER[:20]]
    model = to_onnx(bag, curve)
    assert verify_parity(bag, model, ROWS, curve) < 1e-5
    expected = curve.probabilities(mean_margins(bag, ROWS))
    assert OnnxScorer(model).scores(ROWS)[:, 0] == pytest.approx(expected, abs=5e-6)


def test_uncorrected_beta_changes_nothing():
    """a = b = 1 and c = 0 are the logistic function itself."""
    assert BetaCalibration(1.0, 1.0, 0.0).probabilities(MARGINS) == pytest.approx(1 / (1 + np.exp(-MARGINS)), rel=1e-5)


def test_each_calibrator_names_its_method():
    """What was chosen can be told: the calibrator has the name under which it would be declared."""
    for kind in (Calibration.PLATT, Calibration.BETA, Calibration.ISOTONIC):
        assert fit_calibrator(kind, MARGINS, LABELS).method is kind
    assert fit_calibrator(Calibration.NONE, MARGINS, LABELS) is None


@pytest.mark.parametrize(
    ("curve", "method"),
    [
        (lambda margins: margins, None),
        (lambda margins: 0.5 * margins - 1, Calibration.PLATT),
        (bent, Calibration.BETA),
        (staircase, Calibration.ISOTONIC),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_auto_takes_the_simplest_that_fits(curve, method, seed):
    """Right probabilities stay, a shifted line gets a line, a bent one beta calibration, and steps the free curve."""
    margins, labels = drawn_by(curve, seed=seed)
    chosen = fit_calibrator(Calibration.AUTO, margins, labels)
    assert (chosen and chosen.method) is method
    if chosen is not None:
        declared = fit_calibrator(method, margins, labels)
        assert chosen.probabilities(margins) == pytest.approx(declared.probabilities(margins))


def test_auto_keeps_rows_that_belong_together_in_one_fold():
    """Copies of few rows make a right model look wrong; with the copies in one fold, it is mostly left as it is."""

    def chosen(seed, together):
        rng = np.random.default_rng(seed)
        margins, of = rng.normal(size=60), np.repeat(np.arange(60), 50)
        labels = (rng.random(60) < 1 / (1 + np.exp(-margins))).astype(np.uint8)
        return fit_calibrator(Calibration.AUTO, margins[of], labels[of], of % 6 if together else None)

    assert all(chosen(seed, together=False) is not None for seed in range(8))
    assert sum(chosen(seed, together=True) is None for seed in range(8)) >= 5


def test_auto_without_folds_is_stable():
    """No folds and a single one are the same, and the same again: the choice is by row number, not by chance."""
    margins, labels = drawn_by(bent, 4000)
    found = [fit_calibrator(Calibration.AUTO, margins, labels, folds) for folds in (None, np.zeros(4000, int), None)]
    assert found[0] == found[1] == found[2]


def test_auto_with_hardly_any_positives():
    """Two rows with label 1 in each fold, margins with ties: there is an answer, and it is a simple one."""
    rng = np.random.default_rng(1)
    margins = np.round(rng.normal(-6, 1, 5000), 1)
    labels = np.zeros(5000, np.uint8)
    labels[np.argsort(-margins + rng.normal(size=5000))[:10]] = 1
    folds = np.zeros(5000, int)
    for label in (0, 1):
        folds[labels == label] = np.arange((labels == label).sum()) % 5
    assert [int(labels[folds == fold].sum()) for fold in range(5)] == [2] * 5
    for given in (folds, None):
        chosen = fit_calibrator(Calibration.AUTO, margins, labels, given)
        assert chosen is None or chosen.method is not Calibration.ISOTONIC


def test_method_that_a_fold_does_not_let_fit_is_out():
    """All rows with label 1 in one fold leave nothing to fit without it: the model stays as it is."""
    margins, labels = drawn_by(lambda margins: 0.5 * margins - 4, 2000)
    assert fit_calibrator(Calibration.AUTO, margins, labels, labels.astype(int)) is None
    assert fit_calibrator(Calibration.AUTO, margins, labels) is not None


def test_auto_leaves_a_model_that_ranks_backwards_as_it_is():
    """Where no method can be fitted, the choice is none, not an error: nobody declared a method."""
    assert fit_calibrator(Calibration.AUTO, -MARGINS, LABELS) is None


@pytest.mark.parametrize("seed", range(5))
def test_all_methods_hold_on_tied_and_few_rows(seed):
    """On small tables with ties every method gives rising, finite probabilities, and ONNX gives the same."""
    rng = np.random.default_rng(seed)
    rows = ROWS[rng.integers(0, len(ROWS), 200)]
    margins = np.round(mean_margins([BOOSTER], rows), 1)
    labels = (rng.random(200) < 1 / (1 + np.exp(-0.4 * margins))).astype(np.uint8)
    for kind in CORRECTING:
        curve = fit_calibrator(kind, margins, labels)
        assert verify_parity([BOOSTER], to_onnx([BOOSTER], curve), ROWS[:500], curve) < 1e-4
        if curve is not None:
            found = curve.probabilities(np.linspace(-15, 15, 500))
            assert ((found >= 0) & (found <= 1)).all()
            assert (np.diff(found) >= 0).all()
