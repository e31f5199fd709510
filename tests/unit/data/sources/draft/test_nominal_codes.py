"""Whole numbers that are asked about: a code or an amount?"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from data.sources.draft.column_profile import Column, Context
from data.sources.draft.nominal_codes import asks_for_code

ROWS = 6000
_RNG = np.random.default_rng(0)


def asked(values, rates=None, name="x"):
    """Whether a column is asked about, with a label of these rates by value."""
    values = np.asarray(values)
    chance = np.full(len(values), 0.3) if rates is None else np.array([rates[value] for value in values.tolist()])
    label = (np.random.default_rng(1).random(len(values)) < chance).astype(np.float64)
    return asks_for_code(Column(name, pa.chunked_array([pa.array(values)])), Context(label, None, None))


@pytest.mark.parametrize(
    "name", ["mcc_code", "merchantType", "KIND", "zip", "order_status", "Pclass", "category", "code2"]
)
def test_name_of_a_code_is_asked_about(name):
    """Whole numbers that are called a code are asked about, whatever their label rates."""
    values = _RNG.integers(1, 9, ROWS)
    assert asked(values, name=name)
    assert asked(values.astype(float), name=name)
    assert not asked(values + 0.5, name=name)
    assert not asked(values % 2, name=name)


@pytest.mark.parametrize(
    "name", ["n_type", "num_status", "count_category", "hour", "day", "weekday", "month", "amount"]
)
def test_count_or_calendar_name_is_not(name):
    """A number of types is a count, and a day of the month has an order."""
    assert not asked(_RNG.integers(1, 9, ROWS), name=name)


def test_label_rate_that_jumps_is_asked_about():
    """Numbers whose label rate goes up and down from one to the next are asked about."""
    rates = dict(enumerate([0.1, 0.7, 0.2, 0.9, 0.3, 0.6, 0.1, 0.8]))
    assert asked(_RNG.integers(0, 8, ROWS), rates)


@pytest.mark.parametrize(
    "rates",
    [
        {value: 0.1 + 0.08 * value for value in range(10)},
        {value: 0.7 - 0.1 * min(value, 9 - value) for value in range(10)},
        {value: 0.05 + 0.1 * abs(value - 4) for value in range(10)},
        {value: 0.4 + 0.3 * np.sin(value) for value in range(10)},
        dict.fromkeys(range(10), 0.3),
    ],
)
def test_smooth_label_rate_is_not(rates):
    """A rate that rises, falls, has a top, a bottom or waves, or does not change, is that of an amount."""
    assert not asked(_RNG.integers(0, 10, ROWS), rates)


@pytest.mark.parametrize(("values", "code"), [([4829, 5411, 5812, 7995], True), ([101, 205, 310, 999], True)])
def test_few_numbers_far_from_zero_and_apart_are_asked_about(values, code):
    """A few numbers with gaps, as those of a numbering, are asked about without any label rate."""
    assert asked(_RNG.choice(values, ROWS)) is code


@pytest.mark.parametrize(
    "values", [[100, 250, 500, 5000], [12, 24, 36, 60], [120, 240, 600], [1999, 2005, 2024], range(18, 60)]
)
def test_round_amounts_terms_years_and_ages_are_not(values):
    """Amounts are round, terms are multiples of a year, years and ages are close together."""
    assert not asked(_RNG.choice(list(values), ROWS))


def test_few_rows_prove_nothing():
    """In a small table any amount has few different values, with gaps."""
    assert not asked(_RNG.integers(100, 5000, 40))


@pytest.mark.parametrize("classes", [3, None])
def test_jumps_of_any_label_are_asked_about(classes):
    """The rate of one of several classes, or the height of a number, that goes up and down is asked about as well."""
    values = _RNG.integers(0, 8, ROWS)
    height = np.array([1, 7, 2, 9, 3, 6, 1, 8])
    label = height[values] + _RNG.normal(0, 1, ROWS)
    smooth = values + _RNG.normal(0, 1, ROWS)
    found = []
    for each in (label, smooth):
        held = each if classes is None else np.digitize(each, [2.5, 6.5]).astype(float)
        found.append(
            asks_for_code(Column("x", pa.chunked_array([pa.array(values)])), Context(held, None, None, classes=classes))
        )
    assert found == [True, False]
