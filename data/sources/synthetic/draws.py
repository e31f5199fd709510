"""Draws that generated tables share: times in order, properties that an entity keeps, and columns of names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.sources.synthetic.plan import BLOCK_ROWS, DAY_MS, GenerationPlan
from data.transform.hashing import splitmix64, unit_interval

Columns = dict[str, np.ndarray]


def hour_share(hourly: Sequence[float]) -> np.ndarray:
    """Return the share of a day's rows before each hour, shape (25,), for 24 weights."""
    weights = np.array(hourly, float)
    return np.concatenate(([0.0], np.cumsum(weights) / weights.sum()))


def ascending_times(
    rng: np.random.Generator, plan: GenerationPlan, block: int, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where the rows of a block lie in the period, ascending, float64 of shape (n,) each.

    Args:
        rng: of the block.
        plan: what is generated.
        block: its number.
        shares: of `hour_share`.

    Returns:
        The share of all rows that come before, and milliseconds from the period's start (int64).
    """
    count = plan.rows_of(block)
    rank = np.sort((block * BLOCK_ROWS + count * rng.random(count)) / plan.rows)
    day, share = np.divmod(rank * plan.days, 1.0)
    hour = np.interp(share, shares, np.arange(25.0))
    return rank, (day * DAY_MS + hour * (DAY_MS / 24)).astype(np.int64)


def steady(values: np.ndarray, seed: int) -> np.ndarray:
    """Return a number in [0, 1) for each integer: a random one that is the same in every block."""
    return unit_interval(splitmix64(values.astype(np.uint64), seed))


def joined(first: int, last: int, block: Callable[[int], Columns]) -> Columns:
    """Return the columns of the blocks from `first` up to `last` (exclusive), each as one array."""
    parts = [block(number) for number in range(first, last)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def numbered(first: int, count: int) -> np.ndarray:
    """Return the numbers, from 1, of `count` rows that begin with a block."""
    start = first * BLOCK_ROWS
    return np.arange(start + 1, start + 1 + count)


def named(kind: str, numbers: np.ndarray) -> pa.Array:
    """Return names such as `user_7`."""
    return pc.call_function("binary_join_element_wise", [f"{kind}_", pa.array(numbers).cast(pa.string()), ""])


def words(codes: np.ndarray, names: Sequence[str]) -> pa.Array:
    """Return the name of each code; of -1 null."""
    indices = pa.array(codes.astype(np.int32), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string())).cast(pa.string())


def class_counts(column: pa.ChunkedArray) -> Counter[str]:
    """Return the number of rows of each class."""
    counts = pc.call_function("value_counts", [column])
    return Counter({item["values"].as_py(): item["counts"].as_py() for item in counts})


def class_shares(counts: Counter[str], rows: int, classes: Sequence[str]) -> str:
    """Return the share of each class in words."""
    return ", ".join(f"{name} {100 * counts[name] / rows:.1f} %" for name in classes)


def timestamps(plan: GenerationPlan, time_ms: np.ndarray) -> pa.Array:
    """Return milliseconds from the period's start as timestamps."""
    return pa.array((plan.start_ms + time_ms) * 1000).cast(pa.timestamp("us"))
