"""Generated meal deliveries, for the use case `delivery_time`: how many minutes from the order to the door.

A delivery is cooked, waits for a courier and is ridden. How long that takes follows from the row but for the kitchen,
some of which are slower than they say. The spread grows with the distance, bad weather and the rush: an interval that
is as wide for every row is too wide for the near ones and too narrow for the far ones. Few go wrong altogether.
"""

from __future__ import annotations

from collections import Counter

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
from data.sources.synthetic.plan import DAY_MS, GenerationPlan

_STREAM = 2
"""Sets the draws apart from those of other tables of the same seed."""
_HOUR_MS = DAY_MS // 24
_HOUR_SHARE = hour_share([2, 1, 0.5, 0.5, 0.5, 0.5, 1, 2, 3, 4, 6, 12, 17, 13, 7, 5, 6, 11, 19, 22, 17, 11, 7, 4])
_RUSH = np.isin(np.arange(24), [12, 13, 18, 19, 20])
_DISTRICTS = ("Centre", "Harbour", "Hills", "North", "South", "University")
_DISTRICT_KM = np.array([1.2, 2.6, 3.8, 3.1, 3.0, 1.8])
"""Median distance of the deliveries to each district."""
_VEHICLES = ("bicycle", "car", "scooter")
_VEHICLE_MIX = np.cumsum([0.5, 0.15, 0.35])
_KMH = np.array([14.0, 26.0, 23.0])
_RUSH_KMH = np.array([14.0, 15.0, 20.0])
_WEATHER = ("clear", "rain", "snow")
_WEATHER_MIX = np.cumsum([0.72, 0.24, 0.04])
_WEATHER_HOURS = 6
_SLOWER = np.array([1.0, 1.12, 1.45])
"""How much longer a ride takes in each weather."""
_WENT_WRONG = 0.01
_NO_FLOOR = 0.2

SCHEMA = pa.schema(
    [
        ("delivery_id", pa.int64()),
        ("kitchen_id", pa.string()),
        ("ordered_at", pa.timestamp("us")),
        ("hour", pa.int64()),
        ("district", pa.string()),
        ("distance_km", pa.float64()),
        ("vehicle", pa.string()),
        ("weather", pa.string()),
        ("items", pa.int64()),
        ("estimated_prep", pa.int64()),
        ("open_orders", pa.int64()),
        ("floor", pa.int64()),
        ("prepaid", pa.bool_()),
        ("minutes", pa.float64()),
    ]
)
"""Columns of the generated table."""


def tally(rows: pa.Table) -> Counter[str]:
    """Return the minutes that some deliveries took together, in tenths."""
    return Counter({"tenths": round(float(rows.column("minutes").to_numpy().sum()) * 10)})


def outcome(counts: Counter[str], rows: int) -> str:
    """Return the mean of the minutes in words."""
    return f"{counts['tenths'] / 10 / rows:.1f} minutes on average"


def table(plan: GenerationPlan, first: int, last: int) -> pa.Table:
    """Return the rows of the blocks from `first` up to `last` (exclusive), in time order."""
    columns = joined(first, last, lambda block: _block(plan, block))
    arrays: dict[str, pa.Array] = {name: pa.array(values) for name, values in columns.items()}
    arrays["delivery_id"] = pa.array(numbered(first, len(columns["minutes"])))
    arrays["ordered_at"] = timestamps(plan, columns["time_ms"])
    arrays["kitchen_id"] = named("kitchen", columns["kitchen_id"])
    arrays["floor"] = pa.array(columns["floor"], mask=columns["floor"] < 0)
    for name, names in (("district", _DISTRICTS), ("vehicle", _VEHICLES), ("weather", _WEATHER)):
        arrays[name] = words(columns[name], names)
    return pa.table([arrays[name] for name in SCHEMA.names], schema=SCHEMA)


def _block(plan: GenerationPlan, block: int) -> Columns:
    rng = np.random.default_rng([plan.seed, block, _STREAM])
    _, time_ms = ascending_times(rng, plan, block, _HOUR_SHARE)
    columns = _known(rng, plan, time_ms)
    return {**columns, "time_ms": time_ms, "minutes": _minutes(rng, plan, columns)}


def _known(rng: np.random.Generator, plan: GenerationPlan, time_ms: np.ndarray) -> Columns:
    """Return what is known when a meal is ordered."""
    count = len(time_ms)
    kitchen = (plan.entities * rng.random(count) ** 1.3).astype(np.int64)
    hour = time_ms % DAY_MS // _HOUR_MS
    district = rng.integers(0, len(_DISTRICTS), count)
    distance = np.clip(_DISTRICT_KM[district] * np.exp(0.45 * rng.normal(size=count)), 0.2, 12.0)
    items = 1 + rng.poisson(1.6, count)
    prep = 6 + 10 * steady(kitchen, plan.seed + 1) + 1.5 * items + rng.normal(0, 1.5, count)
    return {
        "kitchen_id": kitchen,
        "hour": hour,
        "district": district,
        "distance_km": np.round(distance, 2),
        "vehicle": np.searchsorted(_VEHICLE_MIX[:-1], rng.random(count) + np.where(distance > 5, 0.3, 0.0)),
        # The same for everybody: it changes a few times a day.
        "weather": np.searchsorted(_WEATHER_MIX[:-1], steady(time_ms // (_WEATHER_HOURS * _HOUR_MS), plan.seed + 2)),
        "items": items,
        "estimated_prep": np.maximum(np.rint(prep), 3).astype(np.int64),
        "open_orders": rng.poisson(np.where(_RUSH[hour], 9.0, 3.0)),
        "floor": np.where(rng.random(count) < _NO_FLOOR, -1, rng.poisson(1.7, count)),
        "prepaid": rng.random(count) < 0.8,
    }


def _minutes(rng: np.random.Generator, plan: GenerationPlan, known: Columns) -> np.ndarray:
    count, rush = len(known["items"]), _RUSH[known["hour"]]
    slowness = 0.95 + 0.2 * steady(known["kitchen_id"], plan.seed + 3)
    waiting = 0.9 * known["open_orders"] + np.where(rush, 2.0, 0.0)
    speed = np.where(rush, _RUSH_KMH[known["vehicle"]], _KMH[known["vehicle"]])
    ride = 60 * known["distance_km"] / speed * _SLOWER[known["weather"]]
    door = 1.5 + 0.6 * np.maximum(known["floor"], 0) + np.where(known["prepaid"], 0.0, 1.5)
    expected = known["estimated_prep"] * slowness + waiting + ride + door
    spread = 0.03 + 0.015 * known["distance_km"] + 0.04 * known["weather"] + np.where(rush, 0.02, 0.0)
    late = np.where(rng.random(count) < _WENT_WRONG, rng.exponential(15.0, count), 0.0)
    return np.round(expected * np.exp(spread * rng.normal(size=count)) + late, 1)
