"""One split: a table is cut the same way in memory and piece by piece."""

from __future__ import annotations

import itertools
import pickle
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from data.schema.use_case import UseCase
from tune.dataset.split import SplitOrder, TableSplit, cut, rows_of, split, split_order
from tune.dataset.streaming_split import stream_split

STRATEGIES = ("time", "random", "entity")


def use_case(**split_keys) -> UseCase:
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


def table(rows: int, moments: int, entities: int, ones: float, seed: int = 0) -> pa.Table:
    """Rows in random time order, many of them at the same moment, some without an entity."""
    rng = np.random.default_rng(seed)
    at = pa.array((1_700_000_000 + rng.integers(0, moments, rows)) * 1_000_000, pa.timestamp("us"))
    who = [f"u{user}" if user else None for user in rng.integers(0, entities, rows)]
    labels = (rng.random(rows) < ones).astype(np.uint8)
    return pa.table({"at": at, "who": pa.array(who, pa.string()), "y": labels})


class Pieces:
    """A table that comes in pieces, and counts how often it is read."""

    def __init__(self, order: SplitOrder, whole: pa.Table, ends: list[int]) -> None:
        bounds = sorted({0, *(min(end, whole.num_rows) for end in ends), whole.num_rows})
        pieces = [(first, whole.slice(first, end - first)) for first, end in itertools.pairwise(bounds)]
        self.keys = [order.keys(piece, piece["y"].to_numpy(), first) for first, piece in pieces]
        self.passes = 0

    def __call__(self, function: Any) -> list[Any]:
        """One pass, the last piece first; what is asked and answered travels as between processes."""
        self.passes += 1
        there = pickle.loads(pickle.dumps(function))
        return [pickle.loads(pickle.dumps(there(keys))) for keys in reversed(self.keys)]

    def parts(self, found: TableSplit) -> np.ndarray:
        """The part of each row of the table, each piece divided on its own."""
        return np.concatenate([found.parts(keys) for keys in self.keys])


fractions = st.floats(0.01, 0.44)


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(STRATEGIES),
    st.tuples(fractions, fractions, st.integers(0, 2**40)),
    st.tuples(st.integers(1, 400), st.integers(1, 500), st.integers(1, 80), st.floats(0, 1), st.integers(0, 10**6)),
    st.lists(st.integers(1, 400), max_size=12),
    st.integers(1, 9),
)
def test_any_table_is_divided_in_pieces_as_it_is_in_memory(strategy, declared, shape, ends, points):
    """Whatever the strategy, fractions, table, pieces and size of the sketches: each row is in the same part."""
    validation, holdout, seed = declared
    order = split_order(use_case(strategy=strategy, validation=validation, holdout=holdout, seed=seed))
    whole = table(*shape)
    pieces = Pieces(order, whole, ends)
    found = order.keys(whole, whole["y"].to_numpy())
    in_memory = cut(order, found)
    streamed = stream_split(order, pieces, points)
    assert streamed.cuts.tolist() == in_memory.cuts.tolist()
    assert pieces.parts(streamed).tolist() == in_memory.parts(found).tolist()
    assert pieces.passes <= 2


@settings(deadline=None)
@given(st.sampled_from(STRATEGIES), fractions, fractions, st.integers(0, 10**6))
def test_fractions_are_met_but_for_rows_that_stay_together(strategy, validation, holdout, seed):
    """Each part has the declared share of the rows, give or take those of one key in each stratum and a rounding."""
    order = split_order(use_case(strategy=strategy, validation=validation, holdout=holdout, seed=seed))
    whole = table(2000, 300, 50, 0.1, seed)
    found = order.keys(whole, whole["y"].to_numpy())
    sizes = np.bincount(cut(order, found).parts(found), minlength=3)
    together = np.unique(found.keys, return_counts=True)[1].max() * order.strata
    assert sizes / 2000 == pytest.approx([1 - validation - holdout, validation, holdout], abs=(together + 2) / 2000)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_large_pieces_are_cut_exactly_in_two_passes(strategy):
    """With more rows than a sketch has keys the cuts are still exact: the split of the whole table, row for row."""
    declared = use_case(strategy=strategy)
    whole = table(60_000, 10**6, 20_000, 0.02)
    pieces = Pieces(split_order(declared), whole, [25_000, 40_000])
    streamed = rows_of(pieces.parts(stream_split(split_order(declared), pieces)))
    in_memory = split(whole, whole["y"].to_numpy(), declared)
    assert pieces.passes == 2
    assert all(np.array_equal(one, other) for one, other in zip(streamed, in_memory, strict=True))


def test_what_is_kept_of_a_piece_is_bounded():
    """Of 400,000 rows in four pieces the first pass keeps the keys of a sketch, the second a few keys for each cut."""
    order = split_order(use_case())
    pieces, kept = Pieces(order, table(400_000, 10**9, 5, 0.5), [100_000, 200_000, 300_000]), []

    def over(function: Any) -> list[Any]:
        answers = pieces(function)
        kept.append(sum(len(found.keys) for answer in answers for found in answer))
        return answers

    stream_split(order, over)
    assert kept[0] <= 4 * (4096 + 4096 // 24 + 1)
    assert kept[1] <= 2 * 4 * 3 * (100_000 // 4096)


def test_row_without_time_is_refused():
    """A null event time cannot be placed; the error counts the rows and names the way out."""
    absent = pa.table({"at": pa.array([None, datetime(2024, 1, 1)], pa.timestamp("us"))})
    with pytest.raises(DataError, match=r"'at': 1 rows have no time.*split.strategy = 'random'"):
        split_order(use_case()).keys(absent, None)
