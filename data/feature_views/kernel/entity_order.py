"""Events in the order of entity and time, and how many of an entity's lie before a moment, for n rows at once."""

from __future__ import annotations

import numpy as np

_BITS = 63
_LONGEST_US = 2**62


class SearchKeys:
    """The entities and times of k events in order, as one ascending number.

    Where entity and time together are beyond 64 bits, as one wrong date among them makes them, the number has the place
    of a time among all times instead: one more search for each row.

    Args:
        entity: codes from 0, ascending, int64 of shape (k,).
        time: microseconds since 1970 UTC, ascending within an entity, int64 of shape (k,).
    """

    def __init__(self, entity: np.ndarray, time: np.ndarray) -> None:
        first, last = (int(time.min()), int(time.max())) if len(time) else (0, 0)
        self._before, self._after = first - 1, last + 1
        self._span = last - first + 3
        largest = int(entity[-1]) + 1 if len(entity) else 1
        fits = largest * self._span < 2**_BITS and self._before >= -(2**_BITS) and self._after < 2**_BITS
        self._times = None if fits else np.unique(time)
        if self._times is None:
            places = time - self._before
        else:
            self._span = len(self._times) + 1
            places = np.searchsorted(self._times, time)
        self._keys = entity * self._span + places

    def count(self, entity: np.ndarray, time: np.ndarray, side: str) -> np.ndarray:
        """Count, for each of n rows, the events of smaller entities and its entity's own before a time.

        `side` "left" counts events before the time, "right" those at it too. A row without entity has none.
        """
        at = "left" if side == "left" else "right"
        if self._times is None:
            places = np.clip(time, self._before, self._after) - self._before
        else:
            places, at = np.searchsorted(self._times, time, at), "left"
        found = np.searchsorted(self._keys, entity * self._span + places, at)
        return found if len(entity) and entity.min() >= 0 else np.where(entity < 0, 0, found)


def earlier(time: np.ndarray, by_us: int) -> np.ndarray:
    """Return times, int64 of shape (n,), moved back; not before the first that an int64 holds."""
    by_us = min(by_us, _LONGEST_US)
    earliest = -(2**_BITS) + by_us
    return np.maximum(time, earliest) - by_us if len(time) and int(time.min()) < earliest else time - by_us


def entity_order(entity: np.ndarray, time: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Return the order by entity, time and rank; each int64 of shape (k,).

    What is in the order of time and rank already is sorted by entity alone.
    """
    if len(time) < 2 or bool(np.all((time[1:] > time[:-1]) | ((time[1:] == time[:-1]) & (rank[1:] >= rank[:-1])))):
        return stable_order(entity)
    by_rank = stable_order(rank)
    by_time = by_rank[stable_order(time[by_rank])]
    return by_time[stable_order(entity[by_time])]


def stable_order(values: np.ndarray) -> np.ndarray:
    """Return the order of int64 of shape (k,), equal ones as they stand.

    Value and place are sorted as one number, which is several times faster than a sort of places by value. Of values
    with more bits than the place leaves free, the lower ones are sorted first.
    """
    count = len(values)
    if count < 2 or bool(np.all(values[1:] >= values[:-1])):
        return np.arange(count)
    # The distance from the smallest is right as an unsigned number whatever the signs are.
    offsets = values.view(np.uint64) - np.uint64(int(values.min()) % 2**64)
    place_bits, spread = count.bit_length(), int(offsets.max()).bit_length()
    width, places = _BITS - place_bits, np.arange(count, dtype=np.uint64)
    order = places.view(np.int64)
    for shift in range(0, spread, width):
        digits = offsets if shift == 0 else offsets[order] >> np.uint64(shift)
        if shift + width < spread:
            digits = digits & np.uint64(2**width - 1)
        packed = (digits << np.uint64(place_bits)) | places
        packed.sort()
        packed &= np.uint64(2**place_bits - 1)
        order = order[packed] if shift else packed.view(np.int64)
    return order
