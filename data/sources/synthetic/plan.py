"""What to generate: rows, entities, period and seed; and how the rows are divided into blocks and files.

Rows are generated in blocks of a fixed size. A block depends on the plan and its number alone, so the number of files
and workers and the order of work change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from data.errors import DataError

BLOCK_ROWS = 65_536
DAY_MS = 86_400_000
MAX_DAYS = 3_000
_MAX_ENTITIES = 1 << 32


@dataclass(frozen=True)
class GenerationPlan:
    """What to generate. The period of `days` days ends before `end_us`, in microseconds since 1970 UTC.

    Raises:
        DataError: counts that cannot be generated.
    """

    rows: int
    seed: int
    entities: int
    days: int
    end_us: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.entities < 1 or self.seed < 0:
            raise DataError("rows and entities must be at least 1, and seed at least 0")
        if not 1 <= self.days <= MAX_DAYS:
            raise DataError(f"days must be 1 to {MAX_DAYS}")
        if self.entities >= _MAX_ENTITIES:
            raise DataError(f"entities must be below {_MAX_ENTITIES:,}")

    @property
    def blocks(self) -> int:
        """Number of blocks; the last may be short."""
        return -(-self.rows // BLOCK_ROWS)

    @property
    def start_ms(self) -> int:
        """Start of the period in milliseconds since 1970."""
        return self.end_us // 1000 - self.days * DAY_MS

    def rows_of(self, block: int) -> int:
        """Return the number of rows of a block."""
        return min(BLOCK_ROWS, self.rows - block * BLOCK_ROWS)


@dataclass(frozen=True)
class Shard:
    """The blocks of the plan from `first` up to `last` (exclusive), to be written into one file."""

    plan: GenerationPlan
    first: int
    last: int


def default_days(rows: int) -> int:
    """Return the default period in days: 90, or more so that a day holds at most half a million rows."""
    return min(max(90, rows // 500_000), MAX_DAYS)


def shards(plan: GenerationPlan, files: int) -> list[Shard]:
    """Divide the plan's blocks over at most `files` files of about equal size."""
    files = min(files, plan.blocks)
    edges = [plan.blocks * i // files for i in range(files + 1)]
    return [Shard(plan, first, last) for first, last in pairwise(edges)]
