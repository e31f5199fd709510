"""XGBoost's matrix over rows in blocks: in memory when it fits, else in a file beside the shards.

Both are quantized while the blocks pass by (one byte a value for most tables), so that the float32 rows are
never held twice, and both give the same model, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import xgboost

_VALUE_BYTES = 11
_ROW_BYTES = 20
"""Peak of a fit with missing values, for each value and each row: measured with 12 and 40 features, rounded up."""
USABLE = 0.7
"""Share of the free memory that matrices may take; the rest is for the trees and for everybody else."""


class Blocks(Protocol):
    """Rows that can be read in blocks any number of times."""

    @property
    def features(self) -> int:
        """Values of a row."""
        ...

    def blocks(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield x, float32 (m, k), and y (m,) of the rows `start` to `stop`, in order."""
        ...


class MemoryFit(NamedTuple):
    """Whether a fit's rows fit into memory: what they need and what may be used, in bytes."""

    needed: int
    usable: int

    @property
    def external(self) -> bool:
        """True when the matrix belongs on disk."""
        return self.needed > self.usable

    def __str__(self) -> str:
        needed, usable = self.needed / 1e6, self.usable / 1e6
        if self.external:
            return f"{needed:,.0f} MB needed, {usable:,.0f} MB usable: from disk (external memory)"
        return f"{needed:,.0f} MB needed, {usable:,.0f} MB usable: in memory"


def fitting(rows: int, features: int, neighbours: int, usable: float = USABLE) -> MemoryFit:
    """Compare a fit over `rows` rows with its part of this machine's free memory, shared by `neighbours` such fits."""
    return MemoryFit(rows * (features * _VALUE_BYTES + _ROW_BYTES), int(free_bytes() * usable) // neighbours)


def build_matrix(source: Blocks, part: range, nthread: int, max_bin: int | None, cache: Path | None) -> xgboost.DMatrix:
    """Quantize the rows `part` of `source`.

    Args:
        source: where the rows are.
        part: which of them.
        nthread: threads to quantize with.
        max_bin: bins of a feature, as in the training parameters; None: XGBoost's default.
        cache: prefix of the files that hold the matrix, None to hold it in memory.

    Raises:
        DataError: a shard cannot be read.
    """
    rows = _BlockIterator(source, part, None if cache is None else str(cache))
    kind = xgboost.QuantileDMatrix if cache is None else xgboost.ExtMemQuantileDMatrix
    bins = {} if max_bin is None else {"max_bin": max_bin}
    return kind(rows, nthread=nthread, **bins)


class _BlockIterator(xgboost.DataIter):
    """Hands the blocks to XGBoost, which asks for them several times."""

    def __init__(self, source: Blocks, part: range, cache: str | None) -> None:
        self._source, self._part = source, part
        self._left = self._start()
        super().__init__(cache_prefix=cache)

    def next(self, input_data: Callable[..., Any]) -> bool:
        block = next(self._left, None)
        if block is not None:
            input_data(data=block[0], label=block[1])
        return block is not None

    def reset(self) -> None:
        self._left = self._start()

    def _start(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self._source.blocks(self._part.start, self._part.stop)


def free_bytes() -> int:
    """Memory that this machine, or the container that this process is in, has left.

    /proc/meminfo's MemAvailable and cgroup v2's memory.max less memory.current, whichever is smaller.
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
