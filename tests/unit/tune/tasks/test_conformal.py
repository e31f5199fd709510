"""Conformal intervals: how often they hold the true value, of all rows and of those with like predictions."""

from __future__ import annotations

import numpy as np
import pytest

from tune.tasks.conformal import conformal_interval


def drawn(rows: int, seed: int):
    """Predictions, and labels whose errors grow with them and are skewed."""
    rng = np.random.default_rng(seed)
    predicted = rng.gamma(2.0, 10.0, rows)
    return predicted + (rng.gamma(2.0, 1.0, rows) - 2) * (0.5 + predicted / 10), predicted


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_interval_holds_the_declared_share_of_other_rows(coverage):
    """Within two points over all rows, and within five in each fifth of the predictions, though errors grow tenfold."""
    interval = conformal_interval(*drawn(5000, 0), coverage)
    labels, predicted = drawn(20_000, 1)
    low, high = interval.all_ends(predicted)
    inside = ((labels >= low) & (labels <= high))[np.argsort(predicted)]
    assert abs(inside.mean() - coverage) < 0.02
    assert all(abs(fifth.mean() - coverage) < 0.05 for fifth in np.array_split(inside, 5))


def test_skewed_errors_have_a_skewed_interval():
    """Errors with a long tail upwards reach further up than down."""
    interval = conformal_interval(*drawn(5000, 0), 0.9)
    low, high = interval.ends(30.0)
    assert high - 30 > 1.2 * (30 - low)


def test_ends_of_one_are_those_of_many():
    """One prediction has the ends that it has among others, and they are as far from it as the offsets say."""
    interval = conformal_interval(*drawn(500, 0), 0.9)
    values = np.linspace(-10, 200, 50)
    low, high = interval.all_ends(values)
    assert [interval.ends(value) for value in values.tolist()] == list(zip(low.tolist(), high.tolist(), strict=True))
    lowest, low_most, high_least, highest = interval.offsets
    assert ((low - values >= lowest - 1e-9) & (low - values <= low_most + 1e-9)).all()
    assert ((high - values >= high_least - 1e-9) & (high - values <= highest + 1e-9)).all()


def test_no_end_is_below_the_least_label():
    """Counts have no interval below 0."""
    interval = conformal_interval(np.array([0.0, 0, 1, 3]), np.full(4, 1.0), 0.9, least=0.0)
    assert interval.ends(0.2)[0] == 0.0


@pytest.mark.parametrize("rows", [2, 5, 150])
def test_few_rows_and_equal_predictions_have_an_interval(rows):
    """As wide as the errors that there are; equal predictions are one group."""
    labels = np.arange(rows, dtype=float)
    interval = conformal_interval(labels, np.full(rows, 7.0), 0.9)
    assert len(interval.at) == 1
    low, high = interval.ends(7.0)
    assert low <= labels.mean() <= high
