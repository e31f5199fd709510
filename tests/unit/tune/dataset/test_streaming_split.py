"""Dividing a large table piece by piece."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest

from data.errors import DataError
from data.schema.use_case import UseCase
from tune.dataset.split import split
from tune.dataset.streaming_split import divide_by_hash, divide_by_time, sketch_times


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


def table(rows=20_000, moments=5000, seed=0):
    """Rows in random time order, some of them at the same second."""
    rng = np.random.default_rng(seed)
    at = pa.array((1_700_000_000 + rng.integers(0, moments, rows)) * 1_000_000, pa.timestamp("us"))
    who = [f"u{user}" for user in rng.integers(0, 600, rows)]
    return pa.table({"a": rng.random(rows), "at": at, "who": who, "y": rng.integers(0, 2, rows)})


def pieces(whole, size):
    """The table in pieces, with the number of the first row of each."""
    return [(start, whole.slice(start, size)) for start in range(0, whole.num_rows, size)]


def divided(division, whole, size):
    """Part of each row when the table comes in pieces."""
    return np.concatenate([division.of(piece, start) for start, piece in pieces(whole, size)])


def test_small_pieces_are_cut_where_a_table_in_memory_is():
    """Up to 4,096 rows a piece the cut by time is that of the whole table in memory, row for row."""
    whole = table()
    division = divide_by_time([sketch_times(piece, "at") for _, piece in pieces(whole, 4000)], use_case())
    in_memory = split(whole, whole["y"].to_numpy().astype(np.uint8), use_case())
    parts = divided(division, whole, 4000)
    assert [np.flatnonzero(parts == part).tolist() for part in range(3)] == [sorted(rows) for rows in in_memory]


def test_large_pieces_are_cut_near_the_declared_fractions():
    """A sketch of larger pieces keeps order and moments, and the sizes are right within a thousandth."""
    whole = table(rows=60_000, moments=10**6)
    division = divide_by_time([sketch_times(piece, "at") for _, piece in pieces(whole, 30_000)], use_case())
    parts, times = divided(division, whole, 7000), whole["at"].to_numpy()
    assert np.bincount(parts) / 60_000 == pytest.approx([0.6, 0.2, 0.2], abs=0.001)
    assert times[parts == 0].max() < times[parts == 1].min()
    assert times[parts == 1].max() < times[parts == 2].min()


def test_entity_is_in_one_part_whatever_the_pieces():
    """No entity is in two parts, and the pieces change nothing."""
    whole, division = table(), divide_by_hash(use_case(strategy="entity"))
    parts, who = divided(division, whole, 3000), np.array(whole["who"])
    assert parts.tolist() == divided(division, whole, 20_000).tolist()
    train, validation, holdout = (set(who[parts == part]) for part in range(3))
    assert not (train & validation or train & holdout or validation & holdout)
    assert np.bincount(parts) / 20_000 == pytest.approx([0.6, 0.2, 0.2], abs=0.05)


def test_rows_at_random_are_the_same_for_the_same_seed():
    """The part of a row depends on its number and the seed alone."""
    whole = table()
    first, again, other = (
        divided(divide_by_hash(use_case(strategy="random", seed=seed)), whole, size)
        for seed, size in ((0, 999), (0, 5000), (1, 5000))
    )
    assert first.tolist() == again.tolist() != other.tolist()
    assert np.bincount(first) / 20_000 == pytest.approx([0.6, 0.2, 0.2], abs=0.02)


def test_row_without_time_is_refused():
    """A null event time cannot be placed; the error counts the rows and names the way out."""
    absent = pa.table({"at": pa.array([None, datetime(2024, 1, 1)], pa.timestamp("us"))})
    with pytest.raises(DataError, match=r"'at': 1 rows have no time.*split.strategy = 'random'"):
        sketch_times(absent, "at")
