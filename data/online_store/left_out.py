"""The rows that materialization leaves out of the store: how many for each reason, the first few by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

_NAMED = 3


class Reason(Enum):
    """Why a row is left out; the first that holds counts."""

    WITHOUT_ENTITY = "no entity"
    WRONG_ENTITY = "wrong entity"
    WITHOUT_TIME = "no event time"
    FUTURE = "future"
    EXPIRED = "expired"


@dataclass(frozen=True)
class LeftOutRows:
    """How many rows are left out for one reason, and the names of the first three."""

    count: int = 0
    names: tuple[str, ...] = ()

    @classmethod
    def named(cls, places: np.ndarray, name: Callable[[int], str]) -> LeftOutRows:
        """Return the rows at some places of a table, named by `name`."""
        return cls(len(places), tuple(name(place) for place in places[:_NAMED].tolist()))

    def __add__(self, others: LeftOutRows) -> LeftOutRows:
        return LeftOutRows(self.count + others.count, (*self.names, *others.names)[:_NAMED])


@dataclass
class LeftOut:
    """The rows left out, by reason."""

    by_reason: dict[Reason, LeftOutRows] = field(default_factory=lambda: {reason: LeftOutRows() for reason in Reason})

    def __getitem__(self, reason: Reason) -> LeftOutRows:
        return self.by_reason[reason]

    @property
    def count(self) -> int:
        """How many rows are left out in all."""
        return sum(rows.count for rows in self.by_reason.values())

    def add(self, reason: Reason, rows: LeftOutRows) -> None:
        """Count rows that are left out for a reason."""
        self.by_reason[reason] += rows

    def merge(self, others: LeftOut) -> None:
        """Count the rows that were left out elsewhere."""
        for reason, rows in others.by_reason.items():
            self.add(reason, rows)
