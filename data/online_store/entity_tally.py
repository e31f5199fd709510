"""The tally of a materialization: what became of each entity, from what became of each row that was put.

A row is kept as nine bytes, the hash of its entity and its outcome, so that the rows of a whole run fit into memory.
Two entities with one 64-bit hash would be counted as one: among ten million that is to be expected once in 400,000
runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.online_store import Outcome


@dataclass(frozen=True)
class EntityTotals:
    """How many entities were written, unchanged or older, and how many of the rows put were not their entity's last."""

    written: int = 0
    """Entities whose stored row was added or replaced."""
    unchanged: int = 0
    """Entities whose stored row was there already."""
    older: int = 0
    """Entities of which the store holds a row with a later event time than any that was put."""
    superseded: int = 0
    """Rows put that another row of the same entity replaced, or that were older than one."""
    conflicting: int = 0
    """Superseded rows that were replaced by one with the same event time, their entity's last, and other values."""
    expired: int = 0
    """Rows that the store did not take because of their age."""

    @property
    def entities(self) -> int:
        """How many entities had a row that was put."""
        return self.written + self.unchanged + self.older


class EntityTally:
    """Collects outcomes in the order in which rows were put."""

    def __init__(self) -> None:
        self._hashes: list[np.ndarray] = []
        self._outcomes: list[np.ndarray] = []

    def add(self, hashes: np.ndarray, outcomes: Sequence[Outcome]) -> None:
        """Add rows that were put: the hashes of their entities, uint64 of shape (n,), and what became of them."""
        self._hashes.append(hashes)
        self._outcomes.append(np.frombuffer(bytes(outcomes), np.uint8))

    def totals(self) -> EntityTotals:
        """Return the totals of all rows added."""
        if not self._hashes:
            return EntityTotals()
        hashes, outcomes = np.concatenate(self._hashes), np.concatenate(self._outcomes)
        put = outcomes != Outcome.EXPIRED
        order = np.argsort(hashes[put], kind="stable")
        entities, outcomes = hashes[put][order], outcomes[put][order]
        first = np.ones(len(entities), bool)
        first[1:] = entities[1:] != entities[:-1]
        starts = np.flatnonzero(first)
        best = _best(outcomes, starts)
        return EntityTotals(
            written=int((best <= Outcome.CORRECTED).sum()),
            unchanged=int((best == Outcome.UNCHANGED).sum()),
            older=int((best == Outcome.OLDER).sum()),
            superseded=len(entities) - len(starts),
            conflicting=_conflicting(outcomes, starts, first),
            expired=int((~put).sum()),
        )


def _best(outcomes: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the smallest outcome of each entity, which is the one that changed the store, if any did."""
    return np.minimum.reduceat(outcomes, starts) if len(starts) else outcomes


def _conflicting(outcomes: np.ndarray, starts: np.ndarray, first: np.ndarray) -> int:
    """Return how many corrections replaced a row of this run, among the rows with the last event time of their entity.

    Those are the rows from the last one that was later than all before it; where there is none, the stored row from
    before the run has the last event time, and the first correction replaced that one.
    """
    entity = np.cumsum(first) - 1
    places = np.arange(len(outcomes))
    newest = starts.copy()
    written = np.flatnonzero(outcomes == Outcome.WRITTEN)
    np.maximum.at(newest, entity[written], written)
    at_last_time = (places >= newest[entity]) & (outcomes != Outcome.OLDER)
    opening = np.full(len(starts), len(outcomes))
    np.minimum.at(opening, entity[at_last_time], places[at_last_time])
    return int((at_last_time & (outcomes == Outcome.CORRECTED) & (places != opening[entity])).sum())
