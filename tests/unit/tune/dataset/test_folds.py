"""Folds of the search: whose rows are learned from and judged, by every strategy of the split."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from data.schema.use_case import UseCase
from tune.dataset.folds import NOT_JUDGED, Folds, fold_rows, one_split
from tune.dataset.split import split_order


def declared(strategy: str) -> UseCase:
    """A small use case with every role."""
    return UseCase.model_validate(
        {
            "name": "t",
            "label": "y",
            "event_time": "at",
            "entity": {"column": "who"},
            "split": {"strategy": strategy},
            "features": {"a": {"type": "number"}},
        }
    )


def made(strategy: str, rows: int = 1000, ones: float = 0.2, wanted: int = 5) -> tuple[pa.Table, np.ndarray, Folds]:
    """A table in random time order, several rows at the same second, with labels and folds."""
    rng = np.random.default_rng(3)
    labels = (rng.random(rows) < ones).astype(np.uint8)
    at = [datetime(2026, 1, 1) + timedelta(seconds=int(second)) for second in rng.integers(0, 300, rows)]
    table = pa.table({"a": rng.random(rows), "at": at, "who": rng.integers(0, 90, rows), "y": labels})
    order = split_order(declared(strategy))
    folds = fold_rows(order, order.keys(table, labels), labels, wanted)
    assert folds is not None
    return table, labels, folds


@pytest.mark.parametrize("strategy", ["random", "entity"])
def test_every_row_is_judged_once_and_learned_from_in_all_other_folds(strategy):
    """At random and by entity the folds divide the rows, and a fit never learns from what it is judged on."""
    _, _, folds = made(strategy)
    assert folds.count == 5
    assert sorted(np.concatenate([rows.judged for rows in folds.each()])) == list(range(1000))
    for rows in folds.each():
        assert sorted([*rows.learned, *rows.judged]) == list(range(1000))
    assert folds.learned_share == pytest.approx(0.8)


def test_random_folds_have_their_share_of_a_rare_label():
    """Rows of either label are divided apart."""
    _, labels, folds = made("random", ones=0.02)
    ones = [int(labels[rows.judged].sum()) for rows in folds.each()]
    assert max(ones) - min(ones) <= 1


def test_entity_is_in_one_fold():
    """No entity is learned from in the fold that judges it."""
    table, _, folds = made("entity")
    who = table.column("who").to_numpy()
    for rows in folds.each():
        assert not set(who[rows.judged]) & set(who[rows.learned])


def test_time_folds_learn_from_earlier_rows_only():
    """The older half is never judged; each later block is judged by what was before it, and no second is divided."""
    table, _, folds = made("time")
    times = table.column("at").to_numpy()
    assert folds.forward
    assert (folds.of == NOT_JUDGED).mean() == pytest.approx(0.5, abs=0.02)
    for rows in folds.each():
        assert times[rows.learned].max() < times[rows.judged].min()
        assert len(rows.judged) == pytest.approx(100, abs=10)


def test_rare_label_makes_fewer_folds():
    """With three rows of a label there are three folds at most, with one none: each needs it on either side."""
    labels = np.zeros(300, np.uint8)
    labels[[10, 110, 210]] = 1
    table = pa.table({"a": np.arange(300.0), "at": [None] * 300, "who": np.arange(300), "y": labels})
    order = split_order(declared("random"))
    folds = fold_rows(order, order.keys(table, labels), labels, 5)
    assert folds is not None
    assert folds.count == 3
    labels[[110, 210]] = 0
    assert fold_rows(order, order.keys(table, labels), labels, 5) is None


def test_one_split_is_a_single_fold():
    """The train rows are learned from, the validation rows judged."""
    folds = one_split(6, 2)
    assert folds.count == 1
    (rows,) = folds.each()
    assert (rows.learned.tolist(), rows.judged.tolist()) == ([0, 1, 2, 3, 4, 5], [6, 7])
    assert folds.learned_share == 0.75
