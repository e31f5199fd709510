"""Figures by slice."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from data.errors import DataError
from data.schema.model_policy import Slice
from data.schema.search import Metric
from data.schema.task import Binary
from tests.support.training.tasks import binary_task, scored
from tune.evaluation.slices import slice_figures
from tune.metrics.ranking import Ranking

ROWS = 2000
TRAIN, HOLDOUT = np.arange(1000), np.arange(1000, ROWS)


def judged(column, declared, metric=Metric.AUC, **options):
    """Judge slices of one column; scores are good where the row number is even."""
    rng = np.random.default_rng(0)
    labels = (rng.random(ROWS) < 0.3).astype(np.uint8)
    noise = np.where(np.arange(ROWS) % 2 == 0, 0.2, 2.0)
    scores = 1 / (1 + np.exp(-(2.0 * labels - 1 + noise * rng.normal(size=ROWS))))
    held = scored(scores[HOLDOUT])
    slices = [Slice.model_validate(declared)]
    found = slice_figures(
        pa.table({"c": column}), TRAIN, HOLDOUT, labels[HOLDOUT], held, slices, binary_task(metric), **options
    )
    return found, labels[HOLDOUT], held


def test_words_are_slices_and_the_weak_one_shows():
    """Each word has its own figures: those of the rows that hold it."""
    words = np.where(np.arange(ROWS) % 2 == 0, "even", "odd")
    found, labels, held = judged(words, "c")
    figures = {each.value: each for each in found}
    assert set(figures) == {"even", "odd"}
    assert sum(each.rows for each in found) == 1000
    even = np.arange(0, 1000, 2)
    assert figures["even"].metric == pytest.approx(Ranking(labels[even], held.scores[even, 0]).auc())
    assert figures["odd"].interval.high < figures["even"].interval.low
    assert figures["even"].observed == pytest.approx(labels[even].mean())


def test_rare_words_and_missing_ones_are_put_together():
    """The 12 words most frequent in training have slices; the rest is one slice, and so is what is missing."""
    words = [None if i % 50 == 0 else f"w{i % 20:02d}" for i in range(ROWS)]
    values = [each.value for each in judged(words, "c")[0]]
    assert len(values) == 14
    assert values[-2:] == ["(other)", "(missing)"]


def test_empty_text_is_in_the_slice_of_what_is_missing():
    """'' and null are one slice, unless '' is a value: then it is a word."""
    words = [[None, "", "a"][i % 3] for i in range(ROWS)]
    assert [each.value for each in judged(words, "c")[0]] == ["a", "(missing)"]
    assert {each.value for each in judged(words, "c", empty_values=["c"])[0]} == {"''", "a", "(missing)"}


def test_edges_cut_numbers_and_belong_above():
    """A value on an edge is in the slice above it; missing values are apart."""
    numbers = pa.array([None if i < 1100 else float(i) for i in range(ROWS)])
    found, *_ = judged(numbers, {"column": "c", "edges": [1500, 1900]})
    assert [(each.name, each.rows) for each in found] == [
        ("c < 1500", 400),
        ("c = 1500 to < 1900", 400),
        ("c >= 1900", 100),
        ("c = (missing)", 100),
    ]


def test_quantiles_are_those_of_the_train_rows():
    """Without edges, many different numbers are cut so that the train rows fall apart evenly."""
    found, *_ = judged(np.arange(ROWS) % 1000, {"column": "c", "quantiles": 2})
    assert [(each.name, each.rows) for each in found] == [("c < 500", 500), ("c >= 500", 500)]


@pytest.mark.parametrize("column", [np.arange(ROWS) % 3, (np.arange(ROWS) % 3).astype(float)])
def test_few_numbers_are_slices_of_their_own(column):
    """A number of few values has a slice for each, in order."""
    assert [float(each.value) for each in judged(column, "c")[0]] == [0, 1, 2]


def test_truth_values_are_slices():
    """A boolean column has two slices."""
    assert {each.value for each in judged(np.arange(ROWS) % 2 == 0, "c")[0]} == {"true", "false"}


def test_small_slice_has_no_figures():
    """Fewer than 50 rows: listed with its share, without a figure that would be chance."""
    words = np.where(np.arange(ROWS) < 1980, "many", "few")
    few = judged(words, "c")[0][-1]
    assert (few.value, few.rows, few.metric, few.interval) == ("(other)", 20, None, None)


def test_edges_of_words_are_refused():
    """Edges need numbers; the error names the column."""
    with pytest.raises(DataError, match="column 'c' holds string, expected numbers"):
        judged(["a"] * ROWS, {"column": "c", "edges": [1]})


@pytest.mark.parametrize("metric", Binary().metrics)
def test_every_metric_is_sliced(metric):
    """The figure lies in its interval whatever the metric."""
    (only,) = judged(["a"] * ROWS, "c", metric)[0]
    assert only.interval.low <= only.metric <= only.interval.high
