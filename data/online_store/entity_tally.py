"""The tally of a materialization: what became of each entity, from what became of each row that was put.

An entity is kept as 18 bytes, the hash of its key and what became of it so far; rows are folded into that as they
come, so that memory is that of the entities, however many rows and blocks there are. Two entities with one 64-bit hash
would be counted as one: among ten million that is to be expected once in 400,000 runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data.online_store import Outcome

_LEAST_FOLDED = 1_000_000
"""Rows that wait, at nine bytes each, before they are folded into their entities."""


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
        self._folded = _Entities.none()
        self._hashes: list[np.ndarray] = []
        self._outcomes: list[np.ndarray] = []
        self._waiting = self._put = self._expired = 0

    def add(self, hashes: np.ndarray, outcomes: Sequence[Outcome]) -> None:
        """Add rows that were put: the hashes of their entities, uint64 of shape (n,), and what became of them."""
        found = np.frombuffer(bytes(outcomes), np.uint8)
        put = found != Outcome.EXPIRED
        self._expired += int((~put).sum())
        self._hashes.append(hashes[put])
        self._outcomes.append(found[put])
        self._waiting += len(self._hashes[-1])
        # Rarely enough that the sorting of all folds is that of a few sorts of all rows.
        if self._waiting > max(_LEAST_FOLDED, len(self._folded.hashes)):
            self._fold()

    def totals(self) -> EntityTotals:
        """Return the totals of all rows added."""
        self._fold()
        best = self._folded.best
        return EntityTotals(
            written=int((best <= Outcome.CORRECTED).sum()),
            unchanged=int((best == Outcome.UNCHANGED).sum()),
            older=int((best == Outcome.OLDER).sum()),
            superseded=self._put - len(best),
            conflicting=int(self._folded.conflicting.sum()),
            expired=self._expired,
        )

    def _fold(self) -> None:
        if self._waiting:
            self._folded = self._folded.after(np.concatenate(self._hashes), np.concatenate(self._outcomes))
        self._put += self._waiting
        self._hashes, self._outcomes, self._waiting = [], [], 0


class _Entities(NamedTuple):
    """What became of the entities so far, arrays of shape (entities,)."""

    hashes: np.ndarray
    """uint64, ascending."""
    best: np.ndarray
    """The smallest outcome, uint8, which is the one that changed the store, if any did."""
    opened: np.ndarray
    """Whether a row of this run has the entity's last event time, bool."""
    conflicting: np.ndarray
    """How many corrections replaced such a row, int64."""

    @classmethod
    def none(cls) -> _Entities:
        """Return those of a run that has put nothing."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint8), np.empty(0, bool), np.empty(0, np.int64))

    def after(self, hashes: np.ndarray, outcomes: np.ndarray) -> _Entities:
        """Return the entities after more rows were put, at least one: `outcomes`, uint8 of shape (n,), in order.

        A correction conflicts when a row of this run had the entity's last event time before it. Such rows begin with
        the last one that was later than all before it; where there is none, the first correction replaced a row that
        was stored before the run.
        """
        # An entity so far stands before its new rows, as one that has its last event time, or as none that counts.
        stands = np.where(self.opened, np.uint8(Outcome.UNCHANGED), np.uint8(Outcome.OLDER))
        order = np.argsort(np.concatenate([self.hashes, hashes]), kind="stable")
        hashes = np.concatenate([self.hashes, hashes])[order]
        best = np.concatenate([self.best, outcomes])[order]
        outcomes = np.concatenate([stands, outcomes])[order]
        carried = np.concatenate([self.conflicting, np.zeros(len(outcomes) - len(stands), np.int64)])[order]
        first = np.ones(len(hashes), bool)
        first[1:] = hashes[1:] != hashes[:-1]
        starts, entity, places = np.flatnonzero(first), np.cumsum(first) - 1, np.arange(len(hashes))
        newest = starts.copy()
        written = np.flatnonzero(outcomes == Outcome.WRITTEN)
        np.maximum.at(newest, entity[written], written)
        at_last_time = (places >= newest[entity]) & (outcomes != Outcome.OLDER)
        opening = np.full(len(starts), len(outcomes))
        np.minimum.at(opening, entity[at_last_time], places[at_last_time])
        conflicts = at_last_time & (outcomes == Outcome.CORRECTED) & (places != opening[entity])
        kept = np.where(outcomes[newest] == Outcome.WRITTEN, 0, carried[starts])
        return _Entities(
            hashes[starts],
            np.minimum.reduceat(best, starts),
            opening < len(outcomes),
            kept + np.bincount(entity[conflicts], minlength=len(starts)),
        )
