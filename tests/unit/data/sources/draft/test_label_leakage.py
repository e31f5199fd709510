"""Columns that rank the label alone, and columns that are computed from such a one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.sources.draft.column_profile import GIVEN_AWAY, RULES, Column, Context
from data.sources.draft.label_leakage import Suspect, copy_of, given_away, levels, single_auc, telltale

ROWS = 4000
_RNG = np.random.default_rng(0)
LABEL = (_RNG.random(ROWS) < 0.3).astype(np.float64)
SCORE = LABEL * 0.6 + _RNG.random(ROWS) * 0.7
CONTEXT = Context(LABEL, None, None)


def column(values, name="x") -> Column:
    """A column of a table."""
    return Column(name, pa.chunked_array([values if isinstance(values, pa.Array) else pa.array(values)]))


def found_with(leak: Column, values) -> Suspect | None:
    """What is said of a column beside a leaking one."""
    suspect = telltale(leak, CONTEXT)
    assert suspect is not None
    return copy_of("x", levels(column(values), CONTEXT), [suspect])


def _absent(values, every=7):
    return pa.array([None if row % every == 0 else value for row, value in enumerate(values)])


@pytest.mark.parametrize(
    "values",
    [
        SCORE,
        -SCORE,
        _absent(SCORE.tolist()),
        [f"{score:.4f}" for score in SCORE],
        [f"{score:.4f}".replace(".", ",") if row % 9 else "" for row, score in enumerate(SCORE)],
        _absent(LABEL.astype(bool).tolist()),
        _absent((LABEL == 0).tolist()),
        _absent(["yes" if y else "no" for y in LABEL]),
        pa.array([1.0 if y else None for y in LABEL]),
        pa.array(["paid" if y else None for y in LABEL]),
        np.where(LABEL, _RNG.choice([2, 5, 9], ROWS), _RNG.choice([1, 4, 8], ROWS)),
        np.where(_RNG.random(ROWS) < 0.01, "unknown", np.where(LABEL, "closed", "open")),
    ],
)
def test_column_of_any_type_that_ranks_the_label_is_a_suspect(values):
    """A number, a truth value, words or codes, either way round, with gaps or by its gaps."""
    suspect = telltale(column(values), CONTEXT)
    assert suspect is not None
    assert suspect.mark.startswith("CAREFUL: alone it ranks the label with AUC ")


@pytest.mark.parametrize(
    "values",
    [
        _RNG.random(ROWS),
        _RNG.random(ROWS) < 0.2,
        _RNG.choice([*"abcdef"], ROWS),
        [f"w{i}" for i in range(ROWS)],
        _absent(_RNG.random(ROWS).tolist(), 3),
        LABEL * 0.5 + _RNG.normal(size=ROWS),
    ],
)
def test_honest_column_is_none(values):
    """Chance, rare words and a useful feature are no leaks."""
    assert telltale(column(values), CONTEXT) is None


@pytest.mark.parametrize(
    "values",
    [
        SCORE > 0.5,
        (SCORE > 0.9).astype(int),
        (SCORE <= 0.5).astype(float),
        np.where(SCORE > 0.6, "decline", "accept"),
        np.array(["low", "middle", "high"])[np.digitize(SCORE, [0.4, 0.8])],
        (SCORE < 0.2) | (SCORE > 1.1),
        np.digitize(SCORE, [0.1, 0.9]),
        _absent((SCORE > 0.5).tolist(), 50),
    ],
)
def test_thresholded_copy_of_a_leak_is_marked_like_it(values):
    """A column computed from a leaking one is named with it, however it is written and with a gap here and there."""
    suspect = found_with(column(SCORE, "score"), values)
    assert suspect is not None
    assert 'CAREFUL: nearly a function of "score", which ranks the label with AUC' in suspect.mark


@pytest.mark.parametrize(
    "values",
    [
        _RNG.random(ROWS),
        _RNG.random(ROWS) < 0.01,
        _RNG.choice([*"abc"], ROWS),
        SCORE + _RNG.normal(size=ROWS) > 0.8,
        np.r_[np.ones(3), np.zeros(ROWS - 3)],
        [f"w{i % 900}" for i in range(ROWS)],
    ],
)
def test_column_that_only_goes_along_with_a_leak_is_no_copy(values):
    """Chance, a rare flag and a column that is merely related are not marked."""
    assert found_with(column(SCORE, "score"), values) is None


def test_copy_of_words_that_give_the_label_away_is_marked():
    """A flag computed from a status that is left out is marked with the status."""
    status = np.where(LABEL, _RNG.choice(["refunded", "disputed"], ROWS), _RNG.choice(["open", "paid"], ROWS))
    suspects = [given_away(column(status, "status"), CONTEXT)]
    suspect = copy_of("disputed", levels(column(status == "disputed"), CONTEXT), suspects)
    assert suspect is not None
    assert 'nearly a function of "status", which gives the label away' in suspect.mark


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.05, 1.25), min_size=1, max_size=6, unique=True), st.booleans())
def test_any_thresholds_are_recognized(thresholds, as_words):
    """Wherever a leaking number is cut into bands, and whatever the bands are called."""
    bands = np.digitize(SCORE, sorted(thresholds))
    if len(SCORE) - np.bincount(bands).max() < 100:
        return
    names = np.array([*"qafmzbk"])
    assert found_with(column(SCORE, "score"), names[bands] if as_words else bands) is not None


def test_labels_in_turn_hide_no_leak():
    """Words are judged whatever the order of the rows, also where the labels alternate."""
    label = np.arange(1000) % 2.0
    words = ["unknown" if row % 10 == 0 else "ab"[row % 2] for row in range(1000)]
    assert single_auc(column(words), Context(label, None, None)) > 0.95


def test_few_rows_of_a_label_prove_nothing():
    """Words that fit three rows by chance do not count as a leak."""
    rare = np.zeros(600)
    rare[[5, 200, 401]] = 1
    words = ["a" if y else "b" for y in rare]
    assert single_auc(column(words), Context(rare, None, None)) == 0.5


TEAM = _RNG.choice([0.0, 1.0, 2.0, 3.0], ROWS, p=[0.5, 0.3, 0.15, 0.05])
TEAMS = Context(TEAM, None, None, classes=4)
AMOUNT = _RNG.lognormal(3, 1, ROWS)
AMOUNTS = Context(AMOUNT, None, None, classes=None)


@pytest.mark.parametrize(
    ("values", "suspect"),
    [
        (TEAM + _RNG.normal(0, 0.2, ROWS), True),
        (np.array([*"qafz"])[TEAM.astype(int)], True),
        (_absent(np.array([*"qafz"])[TEAM.astype(int)].tolist()), True),
        (np.where(TEAM == 0, 1.0, 0.0) + _RNG.normal(0, 0.2, ROWS), False),
        (TEAM + _RNG.normal(0, 1.5, ROWS), False),
        (_RNG.integers(0, 900, ROWS), False),
    ],
)
def test_column_that_tells_each_class_from_the_rest_is_a_suspect(values, suspect):
    """Of several classes a leak tells all; what tells one of them from the rest, or all of them badly, is none."""
    found = telltale(column(values), TEAMS)
    assert (found is not None) == suspect
    assert found is None or found.reason.startswith("alone it tells each class from the rest with AUC ")


@pytest.mark.parametrize(
    ("values", "suspect"),
    [
        (AMOUNT * 1.1 + _RNG.random(ROWS), True),
        (-np.log(AMOUNT), True),
        ([f"{amount:.2f}" for amount in AMOUNT], True),
        (np.digitize(AMOUNT, np.quantile(AMOUNT, np.arange(0.02, 1, 0.02))), True),
        (np.log(AMOUNT) + _RNG.normal(0, 0.5, ROWS), False),
        (_RNG.random(ROWS), False),
    ],
)
def test_column_that_ranks_numbers_is_a_suspect(values, suspect):
    """Of a number that is predicted a leak ranks all of it; what is merely related to it is none."""
    found = telltale(column(values), AMOUNTS)
    assert (found is not None) == suspect
    assert found is None or found.reason.startswith("alone it ranks the label at its quartiles with AUC ")


def test_outlier_of_the_label_is_no_leak_and_hides_none():
    """The quartiles of a label are what a column is judged by, also where most rows have one value."""
    label = np.where(np.arange(ROWS) % 10 == 0, AMOUNT, 0.0)
    label[0] = 1e12
    context = Context(label, None, None, classes=None)
    assert single_auc(column(label + _RNG.random(ROWS) * 0.01), context) > 0.99
    assert single_auc(column(_RNG.random(ROWS)), context) < 0.6


@pytest.mark.parametrize("context", [TEAMS, AMOUNTS])
def test_value_that_goes_with_one_label_only_gives_any_label_away(context):
    """A copy of classes, or of numbers of few different values, is left out; one value with two labels is none."""
    rounded = Context(np.minimum(context.label, 3) // 1, None, None, classes=context.classes)
    codes = rounded.label.astype(int)
    given, mixed = (
        column(np.array([*"qafz"])[each]) for each in (codes, np.where(np.arange(ROWS) == codes.argmax(), 0, codes))
    )
    (rule,) = [rule for rule in RULES if rule.__name__ == "_telltale"]
    assert rule(given, rounded) == GIVEN_AWAY
    assert rule(mixed, rounded) is None
