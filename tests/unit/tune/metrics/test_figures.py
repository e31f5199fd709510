"""Figures, thresholds and bootstrap intervals against scikit-learn and by reasoning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    roc_auc_score,
)

from data.schema.model_policy import Cost, Decision, ThresholdMetric
from data.schema.search import Metric
from data.schema.task import Binary
from tests.support.training.tasks import binary_task, scored
from tune.metrics.figures import (
    best_threshold,
    expected_calibration_error,
    intervals,
    metrics,
    reliability,
)
from tune.metrics.ranking import Ranking


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=3, max_size=60), st.integers(0, 12))
def test_figures_equal_scikit_learn(rows, at):
    """AUC, average precision, F1, Brier and log loss equal scikit-learn's, ties included."""
    labels = np.array([label for label, _ in rows] + [0, 1], np.uint8)
    scores = np.array([score for _, score in rows] + [3, 5], np.float32) / 12
    found = metrics(labels, scores, at / 12)
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["pr_auc"] == pytest.approx(average_precision_score(labels, scores))
    assert found["f1"] == pytest.approx(f1_score(labels, scores.astype(float) >= at / 12, zero_division=0))
    assert found["brier"] == pytest.approx(brier_score_loss(labels, scores), abs=1e-6)
    assert found["log_loss"] == pytest.approx(log_loss(labels, np.clip(scores.astype(float), 1e-7, 1 - 1e-7)))


def test_resample_counts_equal_repeated_rows():
    """A figure of counted rows equals the figure of the rows written out that often."""
    rng = np.random.default_rng(1)
    labels, scores = (rng.random(50) < 0.4).astype(np.uint8), np.round(rng.random(50), 1)
    counts = rng.integers(0, 4, 50)
    written = np.repeat(np.arange(50), counts)
    ranking = Ranking(labels, scores)
    assert ranking.auc(counts.astype(float)) == pytest.approx(roc_auc_score(labels[written], scores[written]))
    expected = average_precision_score(labels[written], scores[written])
    assert ranking.pr_auc(counts.astype(float)) == pytest.approx(expected)
    assert ranking.f1(0.5, counts.astype(float)) == pytest.approx(f1_score(labels[written], scores[written] >= 0.5))


def test_threshold_has_the_best_f1():
    """No threshold does better than the chosen one, and it lies between two scores."""
    rng = np.random.default_rng(2)
    labels = (rng.random(500) < 0.2).astype(np.uint8)
    scores = np.clip(rng.normal(0.3 + 0.3 * labels, 0.2), 0, 1).astype(np.float32)
    chosen = best_threshold(labels, scores)
    best = max(f1_score(labels, scores >= score) for score in scores)
    assert f1_score(labels, scores.astype(float) >= chosen) == pytest.approx(best)
    assert chosen not in scores


def test_threshold_of_constant_scores_marks_every_row():
    """Scores that do not tell rows apart still give a threshold."""
    chosen = best_threshold(np.array([0, 1, 1]), np.full(3, 0.4, np.float32))
    assert 0 <= chosen <= 0.4


def overlapping(rows=500, seed=2):
    """Labels and scores that overlap."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < 0.2).astype(np.uint8)
    return labels, np.clip(rng.normal(0.3 + 0.3 * labels, 0.2), 0.01, 0.99).astype(np.float32)


def test_threshold_has_the_smallest_cost():
    """No threshold is cheaper than the chosen one; the dearer a miss, the lower it lies."""
    labels, scores = overlapping()
    chosen = []
    for dear in (1, 5, 50):
        cost = Cost(false_positive=1, false_negative=dear)
        chosen.append(best_threshold(labels, scores, Decision(cost=cost)))
        spent = metrics(labels, scores, chosen[-1], cost)["cost"]
        assert spent == pytest.approx(min(metrics(labels, scores, float(s), cost)["cost"] for s in scores))
        marked = scores.astype(float) >= chosen[-1]
        wrong = (marked & (labels == 0)).sum() + dear * (~marked & (labels == 1)).sum()
        assert spent == pytest.approx(wrong / len(labels))
    assert chosen[0] > chosen[1] > chosen[2]


def test_threshold_marks_nothing_when_that_is_cheapest():
    """Where a false alarm costs far more than a miss, the threshold lies above every score."""
    labels, scores = overlapping()
    labels[np.argmax(scores)] = 0
    decision = Decision(cost=Cost(false_positive=1000, false_negative=1))
    assert scores.max() < best_threshold(labels, scores, decision) <= 1


def test_threshold_has_the_best_balanced_accuracy():
    """Declared as the metric, balanced accuracy is what the threshold maximizes."""
    labels, scores = overlapping()
    chosen = best_threshold(labels, scores, Decision(metric=ThresholdMetric.BALANCED_ACCURACY))
    best = max(balanced_accuracy_score(labels, scores >= score) for score in scores)
    assert balanced_accuracy_score(labels, scores.astype(float) >= chosen) == pytest.approx(best)


@pytest.mark.parametrize("metric", Binary().metrics)
def test_paired_interval_of_equal_scores_is_zero(metric):
    """Both models are held against the same resamples: no difference, no width."""
    labels, scores = overlapping()
    mine = scored(scores)
    found = binary_task(metric).differences(labels, mine, {"itself": mine})
    assert found["itself"] == (0.0, 0.0, 0.0)


def test_paired_interval_tells_models_apart():
    """The better model is better, the worse one worse, and noise is not told apart; the value is the difference."""
    labels, scores = overlapping(4000)
    rng = np.random.default_rng(5)
    worse = np.clip(scores + rng.normal(0, 0.2, 4000), 0, 1)
    like = np.clip(scores + rng.normal(0, 0.002, 4000), 0, 1)
    mine, task = scored(scores), binary_task(Metric.AUC)
    found = task.differences(labels, mine, {"worse": scored(worse), "like": scored(like)})
    assert [found["worse"].verdict, found["like"].verdict] == ["better", "not told apart"]
    assert found["worse"].value == pytest.approx(roc_auc_score(labels, scores) - roc_auc_score(labels, worse))
    assert found["worse"].low < found["worse"].value < found["worse"].high
    back = task.differences(labels, scored(worse), {"mine": mine})["mine"]
    assert (back.verdict, back.value) == ("worse", -found["worse"].value)


def test_paired_interval_is_narrower_than_the_models_own():
    """What makes a resample easy for one model makes it easy for the other: pairing takes that out."""
    labels, scores = overlapping(2000)
    like = np.clip(scores + np.random.default_rng(6).normal(0, 0.02, 2000), 0, 1)
    task = binary_task(Metric.PR_AUC)
    alone = task.evaluate(labels, scored(scores)).intervals["pr_auc"]
    pair = task.differences(labels, scored(scores), {"like": scored(like)})["like"]
    assert pair.high - pair.low < (alone.high - alone.low) / 2


def test_every_figure_lies_in_its_interval():
    """AUC, PR-AUC, F1, precision, recall, Brier score and cost have intervals around them."""
    labels, scores = overlapping(1500)
    task = binary_task(decision=Decision(cost=Cost(false_positive=1, false_negative=5)))
    found = task.evaluate(labels, scored(scores, 0.4))
    assert set(found.intervals) == {"auc", "pr_auc", "f1", "precision", "recall", "brier", "cost"}
    for name, (low, high) in found.intervals.items():
        assert low <= found.metrics[name] <= high, name


def test_intervals_leave_out_undefined_resamples():
    """A figure that is NaN on some resamples still has an interval; one that always is has none."""
    found = intervals(lambda counts: {"some": 1.0 if counts[0] else np.nan, "none": np.nan}, 5)
    assert found["some"] == (1.0, 1.0)
    assert np.isnan(found["none"]).all()


def test_interval_holds_the_estimate_and_narrows_with_rows():
    """The bootstrap interval is around the figure, and narrower on more rows."""
    rng = np.random.default_rng(3)
    widths = []
    for rows in (300, 3000):
        labels = (rng.random(rows) < 0.3).astype(np.uint8)
        scores = rng.normal(labels * 1.0)
        found = binary_task().evaluate(labels, scored(1 / (1 + np.exp(-scores))))
        low, high = found.intervals["auc"]
        assert low < found.metrics["auc"] < high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_calibration_error_of_true_probabilities_is_small():
    """Labels drawn with the very probabilities have a small error; the opposite ones a large one."""
    rng = np.random.default_rng(4)
    scores = rng.random(20_000)
    labels = (rng.random(20_000) < scores).astype(np.uint8)
    assert expected_calibration_error(labels, scores) < 0.02
    assert expected_calibration_error(labels, 1 - scores) > 0.4


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=1, max_size=60), st.randoms())
def test_calibration_does_not_depend_on_the_order_of_rows(rows, random):
    """Rows of one score are in one bin: shuffled rows give the same bins, error and plot."""
    shuffled = random.sample(rows, len(rows))
    found = []
    for each in (rows, shuffled):
        labels, scores = (np.array(column) for column in zip(*each, strict=True))
        found.append([*reliability(labels, scores / 7), expected_calibration_error(labels, scores / 7)])
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other)
    assert found[0][2].sum() == len(rows)
    assert (np.diff(found[0][0]) > 0).all()


def test_one_score_that_is_the_share_of_label_1_has_no_calibration_error():
    """A model that says the prevalence to every row is calibrated, however the rows are sorted."""
    labels = np.sort((np.arange(1000) < 20).astype(np.uint8))
    for each in (labels, labels[::-1]):
        assert expected_calibration_error(each, np.full(1000, 0.02)) == pytest.approx(0)


@pytest.mark.parametrize("share", [0.05, 0.95])
def test_rows_beside_a_large_tie_have_bins_of_their_own(share):
    """A score that many rows have takes the tenths within it; the other rows are not drawn into its bin."""
    scores = np.where(np.arange(1000) < share * 1000, 0.2, 0.3)
    assert reliability(np.zeros(1000), scores)[2].tolist() == [share * 1000, 1000 - share * 1000]


def test_different_scores_are_in_ten_bins_of_equally_many_rows():
    """Without ties each bin has a tenth of the rows; of fewer than ten rows each has its own."""
    scores = np.random.default_rng(0).permutation(1003) / 1003
    assert set(reliability(np.zeros(1003), scores)[2]) <= {100, 101}
    assert reliability(np.zeros(4), np.arange(4.0))[2].tolist() == [1, 1, 1, 1]
