"""Splitting by time, at random and by entity."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest

from data.errors import DataError
from data.schema.use_case import UseCase
from tune.dataset.split import refuse_lacking, split


def use_case(**split_keys):
    """A small use case with every role declared."""
    return UseCase.model_validate(
        {
            "name": "t",
            "label": "y",
            "event_time": "at",
            "entity": {"column": "who"},
            "split": split_keys,
            "features": {"a": {"type": "number"}},
        }
    )


def table(rows=1000, seed=0):
    """Rows in random time order, many of them at the same second, with their labels."""
    rng = np.random.default_rng(seed)
    seconds = rng.integers(0, 200, rows)
    labels = (rng.random(rows) < 0.2).astype(np.uint8)
    at = pa.array([datetime.fromtimestamp(1_700_000_000 + int(s)) for s in seconds])
    return pa.table({"a": rng.random(rows), "at": at, "who": rng.integers(0, 60, rows), "y": labels}), labels


@pytest.mark.parametrize("strategy", ["time", "random", "entity"])
def test_parts_cover_every_row_once(strategy):
    """Whatever the strategy, each row is in exactly one part, and twice the same input gives the same parts."""
    rows, labels = table()
    parts = split(rows, labels, use_case(strategy=strategy))
    again = split(rows, labels, use_case(strategy=strategy))
    assert sorted(np.concatenate(parts)) == list(range(1000))
    assert all((one == other).all() for one, other in zip(parts, again, strict=True))
    assert [round(len(part) / 1000, 1) for part in parts] == [0.6, 0.2, 0.2]


def test_time_split_is_in_order_and_keeps_a_moment_whole():
    """All of train is before all of validation, which is before all of holdout, and no second is in two parts."""
    rows, labels = table()
    parts = split(rows, labels, use_case())
    times = rows.column("at").to_numpy()
    assert times[parts.train].max() < times[parts.validation].min()
    assert times[parts.validation].max() < times[parts.holdout].min()


def test_entity_split_keeps_an_entity_together():
    """No entity is in two parts."""
    rows, labels = table()
    who = rows.column("who").to_numpy()
    train, validation, holdout = (set(who[part]) for part in split(rows, labels, use_case(strategy="entity")))
    assert not (train & validation or train & holdout or validation & holdout)


def test_entity_split_takes_blank_entities_for_one():
    """Null, '' and white space are no entities of their own: their rows are in one part."""
    rows, labels = table()
    who = [[None, "", " "][i % 3] if i % 10 == 0 else f"w{i % 50}" for i in range(len(labels))]
    rows = rows.set_column(rows.column_names.index("who"), "who", pa.array(who))
    blank = np.arange(0, len(labels), 10)
    parts = split(rows, labels, use_case(strategy="entity"))
    assert sorted(int(np.isin(blank, part).sum()) for part in parts) == [0, 0, len(blank)]


def test_random_split_keeps_the_share_of_a_rare_label():
    """Ten rows with label 1 of a thousand are in all three parts."""
    rows, _ = table()
    labels = np.zeros(1000, np.uint8)
    labels[:10] = 1
    parts = split(rows, labels, use_case(strategy="random"))
    assert [int(labels[part].sum()) for part in parts] == [6, 2, 2]


@pytest.mark.parametrize("rows", [3, 4, 5, 7])
@pytest.mark.parametrize(("validation", "holdout"), [(0.2, 0.2), (0.01, 0.01), (0.45, 0.44), (0.02, 0.45)])
def test_three_rows_of_a_label_are_enough_at_random(rows, validation, holdout):
    """However small a part and however rare a label, three of its rows put one into each part."""
    whole, _ = table()
    labels = np.zeros(1000, np.uint8)
    labels[:rows] = 1
    parts = split(whole, labels, use_case(strategy="random", validation=validation, holdout=holdout))
    assert all(labels[part].any() for part in parts)


def test_too_few_rows_of_a_label_are_counted():
    """Two rows with label 1 cannot be in three parts: the error says so, and advises no other strategy."""
    whole, _ = table()
    labels = np.zeros(1000, np.uint8)
    labels[:2] = 1
    for strategy in ("random", "time", "entity"):
        with pytest.raises(DataError, match="table has 2 rows with y = 1, and each of the 3 parts needs") as refused:
            split(whole, labels, use_case(strategy=strategy))
        assert "split.strategy" not in str(refused.value)


def test_advice_fits_the_strategy():
    """When the rows with label 1 are of one entity, advice speaks of entities and of the part that lacks them."""
    whole, labels = table()
    labels = (whole.column("who").to_numpy() == 7).astype(np.uint8)
    with pytest.raises(DataError, match=r"rows of more entities, make the .* another split\.seed"):
        split(whole, labels, use_case(strategy="entity"))


def test_sample_without_both_labels_is_told_apart():
    """When only the sample in memory lacks a label, the advice is to hold more rows in memory."""
    counts = np.array([[500, 2], [200, 0], [200, 0]])
    with pytest.raises(
        DataError, match=r"the sample of the validation part .* 2 rows .*: raise RAYSCORE_TRAIN_MEMORY_MB"
    ):
        refuse_lacking(counts, use_case(), "the sample of ")


def test_part_with_one_label_is_refused():
    """A holdout without label 1 is refused with the part, its counts and what to do."""
    rows, labels = table()
    order = np.argsort(rows.column("at").to_numpy(), kind="stable")
    labels = labels.copy()
    labels[order[700:]] = 0
    with pytest.raises(DataError, match=r"holdout part without both labels .* 0 of them with y = 1.*random"):
        split(rows, labels, use_case())


def test_row_without_time_is_refused():
    """A null event time cannot be split by time; the error counts the rows and names the way out."""
    rows, labels = table()
    at = rows.column("at").to_pylist()
    at[3] = None
    rows = rows.set_column(1, "at", pa.array(at))
    with pytest.raises(DataError, match="'at': 1 rows have no time"):
        split(rows, labels, use_case())


def test_all_rows_at_one_moment_are_refused():
    """Rows of a single moment cannot be divided by time."""
    rows, labels = table()
    rows = rows.set_column(1, "at", pa.array([datetime(2024, 1, 1)] * 1000))
    with pytest.raises(DataError, match="train part without both labels"):
        split(rows, labels, use_case())
