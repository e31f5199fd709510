"""Hits: the rows that fail one check, counted, with the numbers of the first ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

BAD_ROWS_KEPT = 10_000
"""Most bad rows that are kept and written out; all of them are counted."""

Check = TypeVar("Check", bound=tuple[str, ...])


@dataclass
class Hits:
    """The rows that failed one check: their count, and the numbers (from 0) of the first ones."""

    count: int
    rows: np.ndarray


def hits_of(mask: np.ndarray) -> Hits:
    """Return the hits of a block of n rows, given which of them failed: bool of shape (n,)."""
    rows = np.flatnonzero(mask)
    return Hits(len(rows), rows[:BAD_ROWS_KEPT])


def add_hits(hits: dict[Check, Hits], check: Check, more: Hits, first: int = 0) -> None:
    """Add the hits of a block, which begins at the table's row number `first`, to those of its check."""
    merged = hits.setdefault(check, Hits(0, np.empty(0, np.int64)))
    merged.count += more.count
    merged.rows = np.sort(np.concatenate([merged.rows, more.rows + first]))[:BAD_ROWS_KEPT]
