"""The plan of a replay in time: what is sent when, with repeated, late and disordered arrivals among it.

A disturbance changes when something arrives, never what is known: all that a row's windows count has arrived before the
row is asked. So a row may change places with later rows of other entities alone, and a late event comes just before the
next row of one of its entities.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.feature_views.events.event_columns import EventColumns
from data.schema.events.event_source import EventSource
from tune.skew.in_time_table import InTimeTable

_SHARE = 0.05
"""Share of repeated, of late, and of disordered arrivals."""
_FARTHEST, _LATEST_REPEAT = 50, 200
"""Most places by which a row is put off, and after which it is repeated."""
_LARGEST = 64
"""Most rows of one request; a third of the requests have one row alone."""


class Request(NamedTuple):
    """Rows that are sent as one request, by their places; those of `repeated` were sent before."""

    rows: tuple[int, ...]
    repeated: frozenset[int]
    """Places within `rows`."""
    entities: frozenset[Hashable]
    """Whose events the rows become: none of them may be under way in another request."""


class Stage(NamedTuple):
    """Requests between two materializations of the batch view."""

    stored_until_us: int
    requests: tuple[Request, ...]


class Arrivals(NamedTuple):
    """Events of one source that no request brings, in the order in which they are stored."""

    source: str
    number: np.ndarray
    """Numbers of the events, int64."""
    before: np.ndarray
    """The row before which each is stored, int64, ascending; 0: before any."""
    late: int
    """How many come after a row that is later than they."""
    repeated: int
    """How many are there twice."""


class ReplayPlan(NamedTuple):
    """What is sent when."""

    stages: tuple[Stage, ...]
    arrivals: tuple[Arrivals, ...]
    repeated: int
    """Rows that are sent twice."""
    disordered: int
    """Rows that are sent after later ones."""


def replay_plan(table: InTimeTable, seed: int) -> ReplayPlan:
    """Plan the replay of a table; the same seed gives the same plan."""
    rng = np.random.default_rng(seed)
    own = _row_entities(table)
    arrivals = tuple(_arrivals(table, name, rng) for name in table.events)
    stages, repeated, disordered = [], 0, 0
    for start, end in _stretches(table.stored_until_us):
        order, moved = _disordered(list(range(start, end)), own, rng)
        sequence, again = _with_repeats(order, rng)
        stages.append(Stage(int(table.stored_until_us[start]), tuple(_requests(sequence, own, rng))))
        repeated, disordered = repeated + again, disordered + moved
    return ReplayPlan(tuple(stages), arrivals, repeated, disordered)


def _stretches(values: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the first place and the end of each stretch of equal values."""
    ends = [*(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    yield from zip([0, *ends[:-1]], ends, strict=True)


def _row_entities(table: InTimeTable) -> list[frozenset[Hashable]]:
    """Return of each row the entities whose events it becomes."""
    found: list[set[Hashable]] = [set() for _ in range(table.count)]
    for name in table.recorded:
        for entity, keys in _keys(table, table.manifest.events[name]):
            for at, key in enumerate(keys):
                if key is not None:
                    found[at].add((name, entity, key))
    return [frozenset(each) for each in found]


def _keys(table: InTimeTable, source: EventSource) -> Iterator[tuple[str, Sequence[str | None]]]:
    for entity in source.entities:
        yield entity.name, table.entity_keys(entity)


def _disordered(
    order: list[int], own: Sequence[frozenset[Hashable]], rng: np.random.Generator
) -> tuple[list[int], int]:
    """Put some rows off, each behind later rows that share no entity with it."""
    moved = 0
    for at in range(len(order) - 1):
        if rng.random() >= _SHARE:
            continue
        row, end = order[at], at
        limit = min(at + int(rng.integers(1, _FARTHEST + 1)), len(order) - 1)
        while end < limit and not own[row] & own[order[end + 1]]:
            end += 1
        if end > at:
            order[at : end + 1] = [*order[at + 1 : end + 1], row]
            moved += 1
    return order, moved


def _with_repeats(order: Sequence[int], rng: np.random.Generator) -> tuple[list[tuple[int, bool]], int]:
    """Return the rows, each with whether it is a repeat, with some of them once more behind themselves."""
    places = [(float(at), row, False) for at, row in enumerate(order)]
    again = [(at + rng.uniform(0, _LATEST_REPEAT), row, True) for at, row in enumerate(order) if rng.random() < _SHARE]
    return [(row, repeat) for _, row, repeat in sorted([*places, *again])], len(again)


def _requests(
    sequence: Sequence[tuple[int, bool]], own: Sequence[frozenset[Hashable]], rng: np.random.Generator
) -> Iterator[Request]:
    start = 0
    while start < len(sequence):
        size = 1 if rng.random() < 1 / 3 else int(rng.integers(2, _LARGEST + 1))
        part = sequence[start : start + size]
        rows = tuple(row for row, _ in part)
        repeated = frozenset(at for at, (_, repeat) in enumerate(part) if repeat)
        yield Request(rows, repeated, frozenset().union(*(own[row] for row in rows)))
        start += size


def _arrivals(table: InTimeTable, name: str, rng: np.random.Generator) -> Arrivals:
    events = table.events[name]
    number = np.flatnonzero(_wanted(table, name, events))
    due = np.searchsorted(table.time_us, events.known_us[number], "left")
    before, late = _put_off(table, name, number, due, rng)
    again = np.flatnonzero(rng.random(len(number)) < _SHARE)
    once_more = before[again] + rng.integers(0, _LATEST_REPEAT, len(again))
    number, before = np.concatenate([number, number[again]]), np.concatenate([before, once_more])
    shuffled = rng.permutation(len(number))
    # Events that are due before the same row come in any order.
    order = shuffled[np.argsort(before[shuffled], kind="stable")]
    return Arrivals(name, number[order], before[order], late, len(again))


def _wanted(table: InTimeTable, name: str, events: EventColumns) -> np.ndarray:
    """Return which events are stored: within reach of some row, and not brought by a request itself."""
    reach_us = max(window.reach_us for window in table.manifest.windows if window.source == name)
    within = (events.time_us > table.time_us[0] - reach_us) & (events.known_us <= table.time_us[-1])
    if name in table.recorded:
        sent = set(table.sent_keys.tolist())
        within &= np.array([key not in sent for key in events.key.to_pylist()], bool)
    return within


def _put_off(
    table: InTimeTable, name: str, number: np.ndarray, due: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Return before which row each event is stored, some of them as late as they may be, and how many are late."""
    source, before, late = table.manifest.events[name], due.copy(), 0
    rows: dict[tuple[str, str], list[int]] = {}
    for entity, keys in _keys(table, source):
        for at, key in enumerate(keys):
            if key is not None:
                rows.setdefault((entity, key), []).append(at)
    chosen = np.flatnonzero(rng.random(len(number)) < _SHARE)
    columns = [keys.take(pa.array(number[chosen])).to_pylist() for keys in table.events[name].entities]
    for place, *keys in zip(chosen.tolist(), *columns, strict=True):
        first = int(due[place])
        counted = [rows.get((e.name, key), []) for e, key in zip(source.entities, keys, strict=True)]
        next_ = min((each[at] for each in counted if (at := bisect_left(each, first)) < len(each)), default=first)
        late += next_ > first
        before[place] = next_
    return before, late
