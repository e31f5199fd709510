"""Blocks of whole entities: events and rows in order, in parts that are small enough to be computed in the cache."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from data.feature_views.kernel.entity_order import entity_order
from data.feature_views.kernel.event_arrays import Events, Moments

_SIZE = 1 << 17


class EntityBlock(NamedTuple):
    """All events and rows of some entities, each in the order of entity, time and key."""

    events: np.ndarray
    """int64 of shape (k,): places in the source's events."""
    rows: np.ndarray
    """int64 of shape (n,): places in the rows."""
    same: bool
    """Whether the rows are the events, one by one."""


def entity_blocks(events: Events, rows: Moments, entity: str, size: int = _SIZE) -> list[EntityBlock]:
    """Return the blocks that have all rows; rows without entity are in one without events.

    Args:
        events: k events.
        rows: n rows.
        entity: the name of the entity.
        size: events and rows of a block, together, without those of its last entity.
    """
    held, asked = events.entities[entity], rows.entities[entity]
    same = asked is held and rows.time_us is events.time_us and rows.key_rank is events.key_rank
    order = entity_order(held, events.time_us, events.key_rank)
    row_order = order if same else entity_order(asked, rows.time_us, rows.key_rank)
    codes = max(int(held.max(initial=-1)), int(asked.max(initial=-1))) + 1
    event_starts, row_starts = _starts(held, codes), _starts(asked, codes)
    found = []
    if row_starts[1]:
        found.append(EntityBlock(order[:0], row_order[: row_starts[1]], False))
    for first, end in pairwise(_edges(event_starts + row_starts, size)):
        row_places = row_order[row_starts[first] : row_starts[end]]
        if len(row_places):
            found.append(EntityBlock(order[event_starts[first] : event_starts[end]], row_places, same))
    return found


def _starts(entity: np.ndarray, codes: int) -> np.ndarray:
    """Return where, in order, each entity begins: first `NO_ENTITY`, then the codes, then the end."""
    return np.concatenate(([0], np.cumsum(np.bincount(entity + 1, minlength=codes + 1))))


def _edges(starts: np.ndarray, size: int) -> list[int]:
    """Return which entities begin a block: of about `size` each, from the first code on, and the end."""
    wanted = np.searchsorted(starts, np.arange(int(starts[1]), int(starts[-1]), size))
    return np.unique(np.concatenate(([1], np.maximum(wanted, 1), [len(starts) - 1]))).tolist()
