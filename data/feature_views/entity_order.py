"""Events in the order of entity and time, and how many of an entity's lie before a moment, for n rows at once."""

from __future__ import annotations

import numpy as np


class SearchKeys:
    """The entities and times of k events in order, as one ascending number.

    Args:
        entity: codes from 0, ascending, int64 of shape (k,).
        time: microseconds since 1970 UTC, ascending within an entity, int64 of shape (k,).

    Raises:
        OverflowError: entities and times together are beyond 64 bits.
    """

    def __init__(self, entity: np.ndarray, time: np.ndarray) -> None:
        self._start = int(time.min()) if len(time) else 0
        self._span = (int(time.max()) - self._start if len(time) else 0) + 2
        largest = int(entity[-1]) + 2 if len(entity) else 1
        if largest * self._span >= 2**63:
            raise OverflowError(f"{largest:,} entities over {self._span:,} us are more than one search takes")
        self._keys = entity * self._span + (time - self._start) + 1

    def count(self, entity: np.ndarray, time: np.ndarray, side: str) -> np.ndarray:
        """Count, for each of n rows, the events of smaller entities and its entity's own before a time.

        `side` "left" counts events before the time, "right" those at it too. A row without entity has none.
        """
        within = np.clip(time - self._start, -1, self._span - 2) + 1
        # A time after the last event counts all of them, also those at the end of the span.
        late = (time - self._start > self._span - 2) if side == "left" else np.zeros(0, bool)
        keys = np.maximum(entity, 0) * self._span + within
        found = np.searchsorted(self._keys, keys, side="left" if side == "left" else "right").astype(np.int64)
        if late.any():
            found[late] = np.searchsorted(self._keys, keys[late], side="right")
        return np.where(entity < 0, 0, found)


def entity_order(entity: np.ndarray, time: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Return the order by entity, time and rank; each int64 of shape (k,).

    Sorting is stable: what is in order already costs little.
    """
    in_order = len(time) < 2 or bool(
        np.all((time[1:] > time[:-1]) | ((time[1:] == time[:-1]) & (rank[1:] >= rank[:-1])))
    )
    by_time = np.arange(len(time)) if in_order else np.lexsort((rank, time))
    return by_time[np.argsort(entity[by_time], kind="stable")]
