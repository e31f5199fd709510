"""Synthetic card transactions: any number of rows, in time order, determined by a seed.

Rows are generated in blocks of a fixed size. A block depends on the plan and its number alone, so the number of files
and workers and the order of work change nothing. Frauds belong to incidents: a card is compromised and then misused
for a day or two, which shows in its velocity. Fraud drifts from large purchases abroad to small ones online, and some
labels are wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import DataError
from data.sources.row_origin import Origin, with_origin
from data.transform.hashing import splitmix64, unit_interval

BLOCK_ROWS = 65_536
ORIGIN = "generated"
"""What generated rows name as their file."""
_GROUP_BLOCKS = 8
_DAY_MS = 86_400_000
_ENTITY_SHIFT = 38  # 2**38 ms are 3,181 days: the period and one day more fit below an entity's bits
_MAX_DAYS = 3_000

_CATEGORIES = ("Clothing", "Electronics", "Food", "Grocery", "Travel")
_LEGIT_MIX = np.cumsum([0.2, 0.12, 0.3, 0.33, 0.05])
_ABROAD_MIX = np.cumsum([0.15, 0.35, 0.05, 0.05, 0.4])
_ONLINE_MIX = np.cumsum([0.38, 0.44, 0.08, 0.04, 0.06])
_HOURLY = np.array([2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 11, 12, 13, 12, 11, 11, 12, 13, 14, 13, 11, 8, 5, 3], float)
_HOUR_SHARE = np.concatenate(([0.0], np.cumsum(_HOURLY) / _HOURLY.sum()))

_INCIDENT_ROWS = 8.0
_MISUSE_HOURS = 10.0
_UNREPORTED = 0.05
_FALSE_ALARM = 0.0004
_STEALTH = 0.12


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
        if not 1 <= self.days <= _MAX_DAYS:
            raise DataError(f"days must be 1 to {_MAX_DAYS}")
        if self.entities >= 1 << (63 - _ENTITY_SHIFT):
            raise DataError(f"entities must be below {1 << (63 - _ENTITY_SHIFT):,}")

    @property
    def blocks(self) -> int:
        """Number of blocks; the last may be short."""
        return -(-self.rows // BLOCK_ROWS)

    @property
    def start_ms(self) -> int:
        """Start of the period in milliseconds since 1970."""
        return self.end_us // 1000 - self.days * _DAY_MS


@dataclass(frozen=True)
class Shard:
    """The blocks of the plan from `first` up to `last` (exclusive), to be written into one file."""

    plan: GenerationPlan
    first: int
    last: int


@dataclass(frozen=True)
class _Skeleton:
    """Card, time and fraud of n transactions: arrays of shape (n,), ascending in time (ms from the period's start).

    The part of a block that velocity needs, cheap enough to compute again for the blocks of the last 24 hours.
    """

    time_ms: np.ndarray
    entity: np.ndarray
    attack: np.ndarray


def default_days(rows: int) -> int:
    """Return the default period in days: 90, or more so that a day holds at most half a million rows."""
    return min(max(90, rows // 500_000), _MAX_DAYS)


def default_entities(rows: int, days: int) -> int:
    """Return the default number of cards: one transaction per card every other day, at least 50 cards."""
    return max(50, int(rows / (0.5 * days)))


def shards(plan: GenerationPlan, files: int) -> list[Shard]:
    """Divide the plan's blocks over at most `files` files of about equal size."""
    files = min(files, plan.blocks)
    edges = [plan.blocks * i // files for i in range(files + 1)]
    return [Shard(plan, first, last) for first, last in pairwise(edges)]


def tables(shard: Shard) -> Iterator[pa.Table]:
    """Yield the shard's rows in order, as tables of a few blocks each."""
    for first in range(shard.first, shard.last, _GROUP_BLOCKS):
        last = min(first + _GROUP_BLOCKS, shard.last)
        yield _table(shard.plan, first, last)


def tables_with_origin(shard: Shard) -> Iterator[pa.Table]:
    """Yield what `tables` does with the columns of the rows' origin: their numbers among all rows of the plan."""
    row = shard.first * BLOCK_ROWS
    for table in tables(shard):
        yield with_origin(table, Origin(ORIGIN, row))
        row += table.num_rows


def frauds(table: pa.Table) -> int:
    """Return the number of frauds among some transactions."""
    return int(table.column("is_fraud").to_numpy().sum())


SCHEMA = pa.schema(
    [
        ("transaction_id", pa.int64()),
        ("user_id", pa.string()),
        ("amount", pa.float64()),
        ("transaction_hour", pa.int64()),
        ("merchant_category", pa.string()),
        ("foreign_transaction", pa.int64()),
        ("location_mismatch", pa.int64()),
        ("device_trust_score", pa.int64()),
        ("velocity_last_24h", pa.int64()),
        ("cardholder_age", pa.int64()),
        ("is_fraud", pa.int64()),
        ("timestamp", pa.timestamp("us")),
    ]
)
"""Columns of the generated table."""


def _table(plan: GenerationPlan, first: int, last: int) -> pa.Table:
    blocks = [_skeleton(plan, block) for block in range(first, last)]
    skeleton = _joined(blocks)
    velocity = _velocity(_joined([*_history(plan, first, int(skeleton.time_ms[0])), *blocks]))
    velocity = velocity[len(velocity) - len(skeleton.time_ms) :]
    behaviour = [_behaviour(plan, block, part) for block, part in zip(range(first, last), blocks, strict=True)]
    columns = {name: np.concatenate([part[name] for part in behaviour]) for name in behaviour[0]}
    start = first * BLOCK_ROWS
    columns["transaction_id"] = np.arange(start + 1, start + 1 + len(velocity))
    columns["velocity_last_24h"] = velocity
    columns["timestamp"] = (plan.start_ms + skeleton.time_ms) * 1000
    arrays: dict[str, pa.Array] = {name: pa.array(values) for name, values in columns.items()}
    arrays["timestamp"] = arrays["timestamp"].cast(pa.timestamp("us"))
    arrays["user_id"] = pc.call_function(
        "binary_join_element_wise", ["user_", pa.array(skeleton.entity).cast(pa.string()), ""]
    )
    codes = arrays["merchant_category"]
    arrays["merchant_category"] = pa.DictionaryArray.from_arrays(codes, list(_CATEGORIES)).cast(pa.string())
    return pa.table([arrays[name] for name in SCHEMA.names], schema=SCHEMA)


def _skeleton(plan: GenerationPlan, block: int) -> _Skeleton:
    rng = np.random.default_rng([plan.seed, block, 0])
    count = min(BLOCK_ROWS, plan.rows - block * BLOCK_ROWS)
    rank = np.sort((block * BLOCK_ROWS + count * rng.random(count)) / plan.rows)
    day, share = np.divmod(rank * plan.days, 1.0)
    hour = np.interp(share, _HOUR_SHARE, np.arange(25.0))
    time_ms = (day * _DAY_MS + hour * (_DAY_MS / 24)).astype(np.int64)
    attack = rng.random(count) < 0.02 + 0.008 * rank
    own = (plan.entities * rng.random(count) ** 1.4).astype(np.int64)
    age_ms = np.minimum(rng.exponential(_MISUSE_HOURS, count), 48.0) * (_DAY_MS / 24)
    incidents_a_ms = plan.rows * 0.024 / _INCIDENT_ROWS / (plan.days * _DAY_MS)
    incident = np.floor((time_ms - age_ms) * incidents_a_ms).astype(np.int64)
    victim = (_random(incident, plan.seed) * plan.entities).astype(np.int64)
    return _Skeleton(time_ms, np.where(attack, victim, own), attack)


def _joined(parts: list[_Skeleton]) -> _Skeleton:
    return _Skeleton(
        np.concatenate([part.time_ms for part in parts]),
        np.concatenate([part.entity for part in parts]),
        np.concatenate([part.attack for part in parts]),
    )


def _history(plan: GenerationPlan, first: int, start_ms: int) -> list[_Skeleton]:
    """Return the transactions of blocks before `first` in the 24 hours before `start_ms`, in order."""
    parts: list[_Skeleton] = []
    for block in range(first - 1, -1, -1):
        part = _skeleton(plan, block)
        recent = part.time_ms >= start_ms - _DAY_MS
        parts.insert(0, _Skeleton(part.time_ms[recent], part.entity[recent], part.attack[recent]))
        if not recent.all():
            break
    return parts


def _velocity(rows: _Skeleton) -> np.ndarray:
    """Return, for each row at t, how many rows its entity has in [t - 24 h, t).

    One sorted key of (entity, time) makes a window one range: two binary searches for all rows.
    """
    # A day is added so that a window that begins before the first row does not reach the entity before.
    since_first = rows.time_ms - rows.time_ms[0] + _DAY_MS
    keys = (rows.entity << _ENTITY_SHIFT) + since_first
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    counts = np.searchsorted(keys, keys) - np.searchsorted(keys, keys - _DAY_MS)
    velocity = np.empty_like(counts)
    velocity[order] = counts
    return velocity


def _behaviour(plan: GenerationPlan, block: int, rows: _Skeleton) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([plan.seed, block, 1])
    count = len(rows.time_ms)
    period = rows.time_ms / (plan.days * _DAY_MS)
    blatant = rows.attack & (rng.random(count) >= _STEALTH)
    online = blatant & (rng.random(count) < 0.25 + 0.5 * period)
    abroad = blatant & ~online
    foreign = rng.random(count) < np.select([abroad, online], [0.72, 0.25], 0.04 + 0.03 * period)
    mismatch = rng.random(count) < np.select([abroad, online], [0.5, 0.55], 0.05)
    base = 62 + 32 * _random(rows.entity, plan.seed + 1)
    trust = base + rng.normal(0, 9, count) - np.select([abroad, online], [18.0, 38 - 14 * period], 0.0)
    reported = np.where(rows.attack, rng.random(count) >= _UNREPORTED, rng.random(count) < _FALSE_ALARM)
    return {
        "amount": _amount(rng, abroad, online, period),
        "transaction_hour": rows.time_ms % _DAY_MS // (_DAY_MS // 24),
        "merchant_category": _category(rng.random(count), abroad, online),
        "foreign_transaction": foreign.astype(np.int64),
        "location_mismatch": mismatch.astype(np.int64),
        "device_trust_score": np.clip(np.rint(trust), 0, 100).astype(np.int64),
        "cardholder_age": (18 + 72 * _random(rows.entity, plan.seed + 2) ** 1.3).astype(np.int64),
        "is_fraud": reported.astype(np.int64),
    }


def _amount(rng: np.random.Generator, abroad: np.ndarray, online: np.ndarray, period: np.ndarray) -> np.ndarray:
    location = np.select([abroad, online], [5.3 - 0.4 * period, 3.2 + 0.6 * period], 3.6 + 0.1 * period)
    spread = np.where(abroad | online, 0.9, 1.0)
    return np.round(np.exp(location + spread * rng.normal(size=len(period))) + 0.01, 2)


def _category(draw: np.ndarray, abroad: np.ndarray, online: np.ndarray) -> np.ndarray:
    mixes = [np.searchsorted(mix, draw) for mix in (_ABROAD_MIX, _ONLINE_MIX, _LEGIT_MIX)]
    return np.minimum(np.select([abroad, online], mixes[:2], mixes[2]), len(_CATEGORIES) - 1).astype(np.int32)


def _random(values: np.ndarray, seed: int) -> np.ndarray:
    """Return a number in [0, 1) for each integer: a random one that is the same in every block."""
    return unit_interval(splitmix64(values.astype(np.uint64), seed))
