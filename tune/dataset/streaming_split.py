"""Where a table that streams by is cut: exactly where it would be in memory, with a few numbers kept of each piece.

The key of a given rank is found in two passes. In the first each piece is sketched by some of its keys in order, with
their ranks in the piece. Added up, the sketches say between which two keys the wanted one must lie. The second pass
counts the keys below and collects, with their numbers, the different ones between: of each piece a few, because the
bounds are at most a few keys of its sketch apart. So the driver holds a key and its rank for every 64 rows of a full
piece, 25 MB of 100 million rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from tune.dataset.split import SplitKeys, SplitOrder, TableSplit, cut_ranks

_POINTS = 4096
"""Keys in the sketch of a piece, one more at most."""

Result = TypeVar("Result")


class KeySketch(NamedTuple):
    """Some keys of a piece in order, the first and last among them, and their ranks in the piece."""

    keys: np.ndarray
    ranks: np.ndarray


class Bracket(NamedTuple):
    """The wanted key has rank `rank` among all of a stratum, and lies from `low` to `high` (inclusive)."""

    stratum: int
    rank: int
    low: int
    high: int


class InBracket(NamedTuple):
    """Of a piece: how many keys are below a bracket, and the different keys in it with how often each occurs."""

    below: int
    keys: np.ndarray
    counts: np.ndarray


class Pass(Protocol):
    """Reads the table once."""

    def __call__(self, function: Callable[[SplitKeys], Result]) -> Iterable[Result]:
        """Yield what `function`, which can be pickled, returns for the keys of each piece, in any order."""
        ...


def stream_split(order: SplitOrder, over: Pass, points: int = _POINTS) -> TableSplit:
    """Find the cuts of a table by passes over the keys of its pieces: the same cuts however the pieces are cut.

    Args:
        order: what rows are ordered by.
        over: makes a pass.
        points: keys in the sketch of a piece, at least.

    Raises:
        DataError: what a pass raises.
    """
    sketches = list(over(partial(_sketch, strata=order.strata, points=points)))
    brackets = [
        bracket
        for stratum in range(order.strata)
        for bracket in _brackets(stratum, [each[stratum] for each in sketches], order.fractions)
    ]
    open_ = [bracket for bracket in brackets if bracket.low < bracket.high]
    found = list(over(partial(_look_in, brackets=open_))) if open_ else []
    settled = {bracket: _select(bracket, [each[at] for each in found]) for at, bracket in enumerate(open_)}
    cuts = [settled.get(bracket, bracket.low) for bracket in brackets]
    return TableSplit(order, np.array(cuts, np.int64).reshape(order.strata, 2))


def _sketch(found: SplitKeys, strata: int, points: int) -> list[KeySketch]:
    return [_sketch_of(found.of(stratum), points) for stratum in range(strata)]


def _sketch_of(keys: np.ndarray, points: int) -> KeySketch:
    ranks = np.arange(0, len(keys), max(len(keys) // points, 1))
    if len(keys) and ranks[-1] != len(keys) - 1:
        ranks = np.append(ranks, len(keys) - 1)
    return KeySketch(keys[ranks], ranks)


def _brackets(stratum: int, sketches: Sequence[KeySketch], fractions: tuple[float, float]) -> list[Bracket]:
    rows = sum(int(sketch.ranks[-1]) + 1 for sketch in sketches if len(sketch.ranks))
    if not rows:
        return [Bracket(stratum, 0, 0, 0)] * 2
    keys = np.concatenate([sketch.keys for sketch in sketches])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    # A sketched key adds to the rows that are surely not above it those since the sketched key before it, and to the
    # rows that may lie below any later key those up to the next.
    surely = np.cumsum(np.concatenate([np.diff(each.ranks, prepend=-1) for each in sketches])[order])
    steps = np.concatenate([np.diff(each.ranks, append=each.ranks[-1:] + 1) for each in sketches])[order]
    at_most_before = np.cumsum(steps) - steps
    return [
        Bracket(
            stratum,
            rank,
            int(keys[np.searchsorted(at_most_before, rank, "right") - 1]),
            int(keys[np.searchsorted(surely, rank + 1, "left")]),
        )
        for rank in cut_ranks(rows, fractions)
    ]


def _look_in(found: SplitKeys, brackets: Sequence[Bracket]) -> list[InBracket]:
    return [_in_bracket(found.of(bracket.stratum), bracket) for bracket in brackets]


def _in_bracket(keys: np.ndarray, bracket: Bracket) -> InBracket:
    first, end = np.searchsorted(keys, bracket.low, "left"), np.searchsorted(keys, bracket.high, "right")
    return InBracket(int(first), *np.unique(keys[first:end], return_counts=True))


def _select(bracket: Bracket, found: Sequence[InBracket]) -> int:
    keys, counts = (np.concatenate(parts) for parts in zip(*((each.keys, each.counts) for each in found), strict=True))
    order = np.argsort(keys, kind="stable")
    wanted = bracket.rank - sum(each.below for each in found)
    return int(keys[order][np.searchsorted(np.cumsum(counts[order]), wanted, "right")])
