"""Figures of predicted numbers against scikit-learn, and what a model of shuffled labels comes to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import (
    d2_absolute_error_score,
    d2_pinball_score,
    d2_tweedie_score,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from tune.metrics.number_figures import Loss, NumberFigures, excess_of_chance

EXPECTED = {
    Loss(0.0): r2_score,
    Loss(None, 0.5): d2_absolute_error_score,
    Loss(None, 0.8): lambda y, p: d2_pinball_score(y, p, alpha=0.8),
    Loss(1.0): lambda y, p: d2_tweedie_score(y, p, power=1),
    Loss(1.5): lambda y, p: d2_tweedie_score(y, p, power=1.5),
}


def drawn(rows: int = 401):
    """Counts, some of them 0, and predictions above 0 that know something of them."""
    rng = np.random.default_rng(0)
    mean = np.exp(rng.normal(size=rows))
    return rng.poisson(mean).astype(np.float32), (mean * np.exp(0.3 * rng.normal(size=rows))).astype(np.float32)


@pytest.mark.parametrize("loss", EXPECTED, ids=str)
def test_explained_share_equals_scikit_learn(loss):
    """R2, and D2 of absolute error, pinball loss and deviances, are scikit-learn's."""
    labels, predicted = drawn()
    found = NumberFigures(labels, predicted).explained(loss)
    assert found == pytest.approx(EXPECTED[loss](labels.astype(float), predicted.astype(float)), abs=1e-6)


@pytest.mark.parametrize("loss", EXPECTED, ids=str)
def test_resample_counts_equal_repeated_rows(loss):
    """The share of counted rows equals that of the rows written out that often; the constant is theirs."""
    labels, predicted = drawn(61)
    counts = np.random.default_rng(1).integers(0, 4, 61)
    written = np.repeat(np.arange(61), counts)
    found = NumberFigures(labels, predicted).explained(loss, counts.astype(float))
    assert found == pytest.approx(NumberFigures(labels[written], predicted[written]).explained(loss))


def test_errors_equal_scikit_learn():
    """RMSE and MAE are scikit-learn's, and the bias is the mean of prediction minus label."""
    labels, predicted = drawn()
    found = NumberFigures(labels, predicted).errors(np.ones(len(labels)))
    assert found["rmse"] == pytest.approx(root_mean_squared_error(labels, predicted), rel=1e-6)
    assert found["mae"] == pytest.approx(mean_absolute_error(labels, predicted), rel=1e-6)
    assert found["bias"] == pytest.approx(float((predicted.astype(float) - labels).mean()))


def test_equal_labels_have_no_explained_share():
    """Where there is nothing to explain the share is NaN, not 1 or an error."""
    assert math.isnan(NumberFigures(np.full(5, 2.0), np.arange(5.0)).explained(Loss(0.0)))


def test_excess_of_chance_is_a_standard_normal_for_shuffled_labels():
    """Over many shuffles its mean is 0 and its spread 1, huge labels or not; a model that knows them is far above."""
    labels, predicted = drawn()
    labels[0] = 1e6
    rng = np.random.default_rng(2)
    shuffled = [excess_of_chance(rng.permutation(labels), predicted) for _ in range(2000)]
    assert abs(np.mean(shuffled)) < 0.1
    assert 0.93 < np.std(shuffled) < 1.07
    assert excess_of_chance(labels, predicted) > 10
    assert excess_of_chance(labels, np.zeros_like(predicted)) == 0
