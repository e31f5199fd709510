"""Figures, thresholds and bootstrap intervals against scikit-learn and by reasoning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, log_loss, roc_auc_score

from tune.evaluate import best_threshold, evaluate, expected_calibration_error, metrics
from tune.ranking import Ranking, bootstrap


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


def test_interval_holds_the_estimate_and_narrows_with_rows():
    """The bootstrap interval is around the figure, and narrower on more rows."""
    rng = np.random.default_rng(3)
    widths = []
    for rows in (300, 3000):
        labels = (rng.random(rows) < 0.3).astype(np.uint8)
        scores = rng.normal(labels * 1.0)
        found = evaluate(labels, 1 / (1 + np.exp(-scores)), 0.5)
        low, high = found.intervals["auc"]
        assert low < found.metrics["auc"] < high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_bootstrap_leaves_out_undefined_resamples():
    """A statistic that is NaN on some resamples still has an interval; on all of them it has none."""
    values = iter([float("nan"), 1.0] * 10)
    assert bootstrap(lambda counts: next(values), 5, times=20) == (1.0, 1.0)
    assert np.isnan(bootstrap(lambda counts: float("nan"), 5, times=3)).all()


def test_calibration_error_of_true_probabilities_is_small():
    """Labels drawn with the very probabilities have a small error; the opposite ones a large one."""
    rng = np.random.default_rng(4)
    scores = rng.random(20_000)
    labels = (rng.random(20_000) < scores).astype(np.uint8)
    assert expected_calibration_error(labels, scores) < 0.02
    assert expected_calibration_error(labels, 1 - scores) > 0.4
