"""Quantized XGBoost matrices built from blocks of rows: in memory when they fit, else in files on disk.

Both kinds are quantized block by block (one byte per value for most tables), so that the float32 rows are never held
twice, and both give the same model, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import xgboost

_VALUE_BYTES = 11
_ROW_BYTES = 20
"""Peak memory of a fit with missing values, in bytes per value and per row: measured with 12 and 40 features, rounded
up."""
USABLE = 0.7
"""Share of the free memory that matrices may take; the rest is for the trees and for other processes."""


class Blocks(Protocol):
    """Rows that can be read in blocks any number of times."""

    @property
    def features(self) -> int:
        """Number of features."""
        ...

    def blocks(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (x, y) of the rows `start` to `stop` (exclusive) in order: float32 (m, k) and labels (m,)."""
        ...


class MemoryFit(NamedTuple):
    """Memory that a fit needs and memory that it may use, in bytes."""

    needed: int
    usable: int

    @property
    def external(self) -> bool:
        """Whether the matrix must go to disk (XGBoost's external memory)."""
        return self.needed > self.usable

    def __str__(self) -> str:
        needed, usable = self.needed / 1e6, self.usable / 1e6
        if self.external:
            return f"{needed:,.0f} MB needed, {usable:,.0f} MB usable: from disk (external memory)"
        return f"{needed:,.0f} MB needed, {usable:,.0f} MB usable: in memory"


def fitting(rows: int, features: int, neighbours: int, usable: float = USABLE) -> MemoryFit:
    """Estimate a fit's memory and compare it with this machine's free memory.

    Args:
        rows: rows of the fit.
        features: features of a row.
        neighbours: number of such fits that share the machine.
        usable: share of the free memory that they may take together.
    """
    return MemoryFit(rows * (features * _VALUE_BYTES + _ROW_BYTES), int(free_bytes() * usable) // neighbours)


def build_matrix(
    source: Blocks,
    part: range,
    types: Sequence[str],
    nthread: int,
    max_bin: int | None,
    cache: Path | None,
) -> xgboost.DMatrix:
    """Build the quantized matrix of the rows `part` of `source`.

    Args:
        source: the rows, in blocks.
        part: numbers of the rows to take.
        types: of each feature "q" for a number or "c" for a category, whose values are codes.
        nthread: threads to quantize with.
        max_bin: bins per feature, the same as in the training parameters; None for XGBoost's default.
        cache: path prefix of the files that hold the matrix; None to hold it in memory.

    Raises:
        DataError: a shard cannot be read.
    """
    rows = _BlockIterator(source, part, types, None if cache is None else str(cache))
    kind = xgboost.QuantileDMatrix if cache is None else xgboost.ExtMemQuantileDMatrix
    bins = {} if max_bin is None else {"max_bin": max_bin}
    return kind(rows, nthread=nthread, enable_categorical=True, **bins)


class _BlockIterator(xgboost.DataIter):
    """XGBoost's iterator over the blocks, which it passes over several times."""

    def __init__(self, source: Blocks, part: range, types: Sequence[str], cache: str | None) -> None:
        self._source, self._part, self._types = source, part, list(types)
        self._left = self._start()
        super().__init__(cache_prefix=cache)

    def next(self, input_data: Callable[..., Any]) -> bool:
        block = next(self._left, None)
        if block is not None:
            input_data(data=block[0], label=block[1], feature_types=self._types)
        return block is not None

    def reset(self) -> None:
        self._left = self._start()

    def _start(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self._source.blocks(self._part.start, self._part.stop)


def free_bytes() -> int:
    """Return the free memory of this machine, or of this process's container, in bytes.

    The smaller of MemAvailable in /proc/meminfo and, under cgroup v2, memory.max less memory.current: in a container
    /proc/meminfo still shows the whole machine.
    """
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / name for name in ("memory.max", "memory.current"))
        return min(available, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):
        # No cgroup v2, or "max": there is no limit but the machine's.
        return available
