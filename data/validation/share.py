"""Shares: some of many rows, how they are shown, and when two of them differ."""

from __future__ import annotations

import math
from dataclasses import dataclass

_STRONG_Z = 4.0
"""From here on two shares differ: by chance one pair in 16,000 does, and a table has as many pairs as features."""


@dataclass(frozen=True)
class Share:
    """`count` of `rows` rows, which may be none."""

    count: int
    rows: int

    def __str__(self) -> str:
        """In percent; what is not none is not shown as 0, nor what is not all as 100."""
        shown = f"{100 * self.count / max(self.rows, 1):.2f}"
        if shown == "0.00" and self.count:
            return "<0.01 %"
        if shown == "100.00" and self.count < self.rows:
            return ">99.99 %"
        return f"{shown} %"

    def differs(self, other: Share) -> bool:
        """Return whether the two differ by more than chance explains.

        The two-proportion z-test with continuity correction, from |z| = 4 on.
        """
        if not self.rows or not other.rows:
            return False
        pooled = (self.count + other.count) / (self.rows + other.rows)
        each = 1 / self.rows + 1 / other.rows
        distance = abs(self.count / self.rows - other.count / other.rows) - each / 2
        return distance > 0 and distance >= _STRONG_Z * math.sqrt(pooled * (1 - pooled) * each)
