"""Partial aggregates: what is kept of some events so that an aggregate of them and of others is exact.

Every one is of whole numbers or of text, and folding the partial aggregates of parts gives what folding their events
gives, in whatever order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from itertools import chain
from operator import itemgetter, mul
from typing import Any, NamedTuple

from data.schema.features.window_feature import Aggregate


class Partial(IntEnum):
    """What is kept of the chosen events of a span; none is kept of a span without any."""

    COUNT = 0
    LATEST = 1
    """Time of the latest event, in microseconds."""
    TOTAL = 2
    """Sum of the whole numbers."""
    MOMENTS = 3
    """That sum, and that of their squares."""
    LEAST = 4
    MOST = 5
    FIRST = 6
    """Time and value of the earliest event."""
    LAST = 7
    VALUES = 8
    """Each different value once."""


class Held(NamedTuple):
    """The chosen events of a span, at least one."""

    events: int
    first_us: int
    last_us: int
    values: Sequence[Any]
    """The value of each in their order; none for a choice that reads no value."""


def moments(values: Sequence[int]) -> tuple[int, int]:
    """Return the sum of whole numbers and that of their squares."""
    return sum(values), sum(map(mul, values, values))


PARTIAL_OF: Mapping[Aggregate, Partial] = {
    Aggregate.COUNT: Partial.COUNT,
    Aggregate.SINCE_LAST: Partial.LATEST,
    Aggregate.SUM: Partial.TOTAL,
    Aggregate.MEAN: Partial.TOTAL,
    Aggregate.STD: Partial.MOMENTS,
    Aggregate.MIN: Partial.LEAST,
    Aggregate.MAX: Partial.MOST,
    Aggregate.FIRST: Partial.FIRST,
    Aggregate.LAST: Partial.LAST,
    Aggregate.DISTINCT: Partial.VALUES,
}
"""From which partial aggregate, and the count, each aggregate is made."""

FOLD_VALUES: Mapping[Partial, Callable[[Sequence[Any]], Any]] = {
    Partial.TOTAL: sum,
    Partial.MOMENTS: moments,
    Partial.LEAST: min,
    Partial.MOST: max,
    Partial.FIRST: itemgetter(0),
    Partial.LAST: itemgetter(-1),
    Partial.VALUES: set,
}
"""What `finished` of a partial aggregate is for the values of one span."""

_FOLD: Mapping[Partial, Callable[[Held], Any]] = {
    Partial.COUNT: lambda held: held.events,
    Partial.LATEST: lambda held: held.last_us,
    Partial.TOTAL: lambda held: sum(held.values),
    Partial.MOMENTS: lambda held: moments(held.values),
    Partial.LEAST: lambda held: min(held.values),
    Partial.MOST: lambda held: max(held.values),
    Partial.FIRST: lambda held: [held.first_us, held.values[0]],
    Partial.LAST: lambda held: [held.last_us, held.values[-1]],
    Partial.VALUES: lambda held: list(set(held.values)),
}
_MERGE: Mapping[Partial, Callable[[Sequence[Any]], Any]] = {
    Partial.COUNT: sum,
    Partial.LATEST: max,
    Partial.TOTAL: sum,
    Partial.MOMENTS: lambda parts: (sum(map(itemgetter(0), parts)), sum(map(itemgetter(1), parts))),
    Partial.LEAST: min,
    Partial.MOST: max,
    # No two spans have events of the same instant, so the values are never compared.
    Partial.FIRST: min,
    Partial.LAST: max,
    Partial.VALUES: lambda parts: list(set(chain.from_iterable(parts))),
}


def fold(partial: Partial, held: Held) -> Any:
    """Return a partial aggregate of the events of a span."""
    return _FOLD[partial](held)


def merge(partial: Partial, parts: Sequence[Any]) -> Any:
    """Return the partial aggregate of all spans from those of each, at least one."""
    return _MERGE[partial](parts)


def finished(partial: Partial, part: Any) -> Any:
    """Return what an aggregate is made of: `FOLD_VALUES` of the values of all events."""
    return part[1] if partial in (Partial.FIRST, Partial.LAST) else part
