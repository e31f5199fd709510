"""Generated card transactions, for the use case `card_fraud`.

A row holds what is known when the card is swiped, and no history: how often a card was used, and what a terminal was
reported for, follow from the rows before it.

Holders go on trips, at home or abroad, and then use their card often and at many terminals. Frauds are of two kinds.
A card is compromised and then misused for a day or two, much as on a trip, but from devices that are less trusted; or a
terminal is compromised for weeks, and most purchases at it are frauds that look like any other. Fraud drifts from large
purchases abroad to small ones online, and some labels are wrong.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data.sources.synthetic.draws import (
    Columns,
    ascending_times,
    hour_share,
    joined,
    named,
    numbered,
    steady,
    timestamps,
    words,
)
from data.sources.synthetic.plan import DAY_MS, MAX_DAYS, GenerationPlan

_CATEGORIES = ("Clothing", "Electronics", "Food", "Grocery", "Travel")
_LEGIT_MIX = np.cumsum([0.2, 0.12, 0.3, 0.33, 0.05])
_CATEGORY_EDGES = np.concatenate(([0.0], _LEGIT_MIX))
"""Terminals are numbered by what their merchants sell: those of a category lie between two of these shares."""
_ABROAD_MIX = np.cumsum([0.15, 0.35, 0.05, 0.05, 0.4])
_ONLINE_MIX = np.cumsum([0.38, 0.44, 0.08, 0.04, 0.06])
_HOUR_SHARE = hour_share([2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 11, 12, 13, 12, 11, 11, 12, 13, 14, 13, 11, 8, 5, 3])

_INCIDENT_ROWS = 8.0
_MISUSE_HOURS = 10.0
_OLD_DEVICES = 0.04
_TRIP_SHARE = 0.12
_TRIP_ROWS = 6.0
_TRIP_HOURS = 4.0
_TRIPS_ABROAD = 0.4
_UNREPORTED = 0.03
_FALSE_ALARM = 0.0003
_STEALTH = 0.05
_CARDS_A_TERMINAL = 3
_USUAL_TERMINALS = 3
"""Terminals of each category at which a card is usually used."""
_SKIMMED_DAYS = 56
_SKIMMED_TERMINALS = 0.004
"""Share of the terminals that are compromised in any `_SKIMMED_DAYS` days."""
_SKIMMED_PURCHASES = 0.8


@dataclass(frozen=True)
class _Skeleton:
    """Time, card, misuse and trip abroad of n transactions: arrays of shape (n,), ascending in time.

    Times are ms from the period's start.
    """

    time_ms: np.ndarray
    entity: np.ndarray
    attack: np.ndarray
    trip_abroad: np.ndarray


def tally(table: pa.Table) -> Counter[str]:
    """Return the number of frauds among some transactions, as `frauds`."""
    return Counter({"frauds": int(table.column("is_fraud").to_numpy().sum())})


def outcome(counts: Counter[str], rows: int) -> str:
    """Return the share of frauds in words."""
    return f"{100 * counts['frauds'] / rows:.2f} % fraud"


SCHEMA = pa.schema(
    [
        ("transaction_id", pa.int64()),
        ("user_id", pa.string()),
        ("terminal_id", pa.string()),
        ("amount", pa.float64()),
        ("transaction_hour", pa.int64()),
        ("merchant_category", pa.string()),
        ("foreign_transaction", pa.int64()),
        ("location_mismatch", pa.int64()),
        ("device_trust_score", pa.int64()),
        ("cardholder_age", pa.int64()),
        ("is_fraud", pa.int64()),
        ("timestamp", pa.timestamp("us")),
    ]
)
"""Columns of the generated table."""


def table(plan: GenerationPlan, first: int, last: int) -> pa.Table:
    """Return the rows of the blocks from `first` up to `last` (exclusive), in time order."""
    columns = joined(first, last, lambda block: _block(plan, block))
    arrays: dict[str, pa.Array] = {name: pa.array(values) for name, values in columns.items()}
    arrays["transaction_id"] = pa.array(numbered(first, len(columns["time_ms"])))
    arrays["timestamp"] = timestamps(plan, columns["time_ms"])
    arrays["user_id"] = named("user", columns["user_id"])
    arrays["terminal_id"] = named("terminal", columns["terminal_id"])
    arrays["merchant_category"] = words(columns["merchant_category"], _CATEGORIES)
    return pa.table([arrays[name] for name in SCHEMA.names], schema=SCHEMA)


def _block(plan: GenerationPlan, block: int) -> Columns:
    rows = _skeleton(plan, block)
    return {**_behaviour(plan, block, rows), "time_ms": rows.time_ms, "user_id": rows.entity}


def _skeleton(plan: GenerationPlan, block: int) -> _Skeleton:
    rng = np.random.default_rng([plan.seed, block, 0])
    rank, time_ms = ascending_times(rng, plan, block, _HOUR_SHARE)
    count = len(rank)
    attack = rng.random(count) < 0.02 + 0.008 * rank
    trip = ~attack & (rng.random(count) < _TRIP_SHARE)
    own = (plan.entities * rng.random(count) ** 1.4).astype(np.int64)
    incident = _episode(rng, plan, time_ms, 0.024 / _INCIDENT_ROWS, _MISUSE_HOURS)
    journey = _episode(rng, plan, time_ms, _TRIP_SHARE / _TRIP_ROWS, _TRIP_HOURS)
    victim = (steady(incident, plan.seed) * plan.entities).astype(np.int64)
    traveller = (steady(journey, plan.seed + 7) * plan.entities).astype(np.int64)
    trip_abroad = trip & (steady(journey, plan.seed + 8) < _TRIPS_ABROAD)
    return _Skeleton(time_ms, np.select([attack, trip], [victim, traveller], own), attack, trip_abroad)


def _episode(
    rng: np.random.Generator, plan: GenerationPlan, time_ms: np.ndarray, share: float, hours: float
) -> np.ndarray:
    """Return for each time the number of an episode that began before it, `hours` on average and at most two days.

    `share` is the number of episodes that begin for each row of the plan.
    """
    age_ms = np.minimum(rng.exponential(hours, len(time_ms)), 48.0) * (DAY_MS / 24)
    begin_a_ms = plan.rows * share / (plan.days * DAY_MS)
    return np.floor((time_ms - age_ms) * begin_a_ms).astype(np.int64)


def _behaviour(plan: GenerationPlan, block: int, rows: _Skeleton) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([plan.seed, block, 1])
    count = len(rows.time_ms)
    period = rows.time_ms / (plan.days * DAY_MS)
    blatant = rows.attack & (rng.random(count) >= _STEALTH)
    online = blatant & (rng.random(count) < 0.25 + 0.5 * period)
    abroad = blatant & ~online
    usual = np.where(rows.trip_abroad, 0.9, 0.03 + 0.02 * period)
    foreign = rng.random(count) < np.select([abroad, online], [0.72, 0.25], usual)
    mismatch = rng.random(count) < np.select([abroad, online], [0.65, 0.6], 0.04)
    old_device = steady(rows.entity, plan.seed + 9) < _OLD_DEVICES
    base = np.where(old_device, 40.0, 64 + 30 * steady(rows.entity, plan.seed + 1))
    trust = base + rng.normal(0, 9, count) - np.select([abroad, online], [28.0, 44 - 12 * period], 0.0)
    away = abroad | online | rows.trip_abroad
    category = _category(rng.random(count), abroad, online)
    terminal = _terminal(plan, category, np.where(away, rng.integers(0, 1 << 62, count), _usual(rng, rows)))
    skimmed = ~rows.attack & _is_skimmed(plan, terminal, rows.time_ms) & (rng.random(count) < _SKIMMED_PURCHASES)
    fraud = rows.attack | skimmed
    reported = np.where(fraud, rng.random(count) >= _UNREPORTED, rng.random(count) < _FALSE_ALARM)
    return {
        "terminal_id": terminal,
        "amount": _amount(rng, plan, rows, abroad, online),
        "transaction_hour": rows.time_ms % DAY_MS // (DAY_MS // 24),
        "merchant_category": category,
        "foreign_transaction": foreign.astype(np.int64),
        "location_mismatch": mismatch.astype(np.int64),
        "device_trust_score": np.clip(np.rint(trust), 0, 100).astype(np.int64),
        "cardholder_age": (18 + 72 * steady(rows.entity, plan.seed + 2) ** 1.3).astype(np.int64),
        "is_fraud": reported.astype(np.int64),
    }


def _usual(rng: np.random.Generator, rows: _Skeleton) -> np.ndarray:
    """Return a number for one of the terminals at which each row's card is usually used."""
    return rows.entity * _USUAL_TERMINALS + rng.integers(0, _USUAL_TERMINALS, len(rows.entity))


def _terminals(plan: GenerationPlan) -> int:
    return max(20, plan.entities // _CARDS_A_TERMINAL)


def _terminal(plan: GenerationPlan, category: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Return a terminal of each row's category, the same one for the same choice."""
    edges = np.rint(_CATEGORY_EDGES * _terminals(plan)).astype(np.int64)
    first, count = edges[category], np.maximum(edges[category + 1] - edges[category], 1)
    return first + (steady(choice, plan.seed + 3) * count).astype(np.int64)


def _is_skimmed(plan: GenerationPlan, terminal: np.ndarray, time_ms: np.ndarray) -> np.ndarray:
    # Each terminal's periods begin at another day, so that not all of them change at once.
    shift = steady(terminal, plan.seed + 4) * _SKIMMED_DAYS
    period = np.floor(time_ms / DAY_MS / _SKIMMED_DAYS + shift / _SKIMMED_DAYS).astype(np.int64)
    return steady(terminal * MAX_DAYS + period, plan.seed + 5) < _SKIMMED_TERMINALS


def _amount(
    rng: np.random.Generator, plan: GenerationPlan, rows: _Skeleton, abroad: np.ndarray, online: np.ndarray
) -> np.ndarray:
    period = rows.time_ms / (plan.days * DAY_MS)
    usual = 3.1 + 1.0 * steady(rows.entity, plan.seed + 6) + 0.1 * period
    location = np.select([abroad, online], [5.3 - 0.4 * period, 3.2 + 0.6 * period], usual)
    spread = np.where(abroad | online, 0.9, 0.8)
    return np.round(np.exp(location + spread * rng.normal(size=len(period))) + 0.01, 2)


def _category(draw: np.ndarray, abroad: np.ndarray, online: np.ndarray) -> np.ndarray:
    mixes = [np.searchsorted(mix, draw) for mix in (_ABROAD_MIX, _ONLINE_MIX, _LEGIT_MIX)]
    return np.minimum(np.select([abroad, online], mixes[:2], mixes[2]), len(_CATEGORIES) - 1).astype(np.int32)
