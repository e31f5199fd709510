"""Generated impressions, for the use case `product_ranking`: which products of a session a user clicks and buys.

A session shows a user some products. What comes of each follows from what everybody likes of it, from what this user
likes of its category, from its price beside what the user pays as a rule, and from chance. Popularity alone therefore
orders a session somewhat, and who knows the user orders it better.
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
from data.sources.synthetic.plan import BLOCK_ROWS, GenerationPlan

_STREAM = 4
"""Sets the draws apart from those of other tables of the same seed."""
_HOUR_SHARE = hour_share([2, 1, 1, 0.5, 0.5, 1, 2, 4, 6, 7, 8, 8, 9, 8, 8, 8, 9, 10, 12, 14, 15, 14, 9, 5])
_LEAST, _MOST = 10, 20
"""Products of a session; the last session of a block may have fewer."""
_PRODUCTS = 401
"""Prime, so that steps of any width meet no product twice in a session."""
_CATEGORIES = ("books", "electronics", "fashion", "garden", "home", "sports", "toys", "travel")
_CATEGORY_PRICE = np.array([15.0, 180.0, 45.0, 60.0, 70.0, 55.0, 25.0, 110.0])
_DEVICES = ("desktop", "mobile", "tablet")
_DEVICE_MIX = np.cumsum([0.35, 0.55, 0.1])
_DISCOUNTS = np.array([0.0, 0.0, 0.0, 0.1, 0.2, 0.3])
_CLICKED, _BOUGHT = 2.2, 3.2
"""How much a user must like a product to click on it, and to buy it."""

SCHEMA = pa.schema(
    [
        ("impression_id", pa.int64()),
        ("session_id", pa.string()),
        ("user_id", pa.string()),
        ("shown_at", pa.timestamp("us")),
        ("product_id", pa.string()),
        ("category", pa.string()),
        ("price", pa.float64()),
        ("discount", pa.float64()),
        ("rating", pa.float64()),
        ("clicks_7d", pa.int64()),
        ("price_to_usual", pa.float64()),
        ("category_share", pa.float64()),
        ("seen_before", pa.bool_()),
        ("device", pa.string()),
        ("grade", pa.int64()),
    ]
)
"""Columns of the generated table."""


def tally(rows: pa.Table) -> Counter[str]:
    """Return the number of impressions that were clicked, and bought."""
    grades = rows.column("grade").to_numpy()
    return Counter({"clicked": int((grades == 1).sum()), "bought": int((grades == 2).sum())})


def outcome(counts: Counter[str], rows: int) -> str:
    """Return the shares of the grades in words."""
    return f"{100 * counts['clicked'] / rows:.1f} % clicked, {100 * counts['bought'] / rows:.1f} % bought"


def table(plan: GenerationPlan, first: int, last: int) -> pa.Table:
    """Return the rows of the blocks from `first` up to `last` (exclusive), in time order."""
    columns = joined(first, last, lambda block: _block(plan, block))
    arrays: dict[str, pa.Array] = {name: pa.array(values) for name, values in columns.items()}
    arrays["impression_id"] = pa.array(numbered(first, len(columns["grade"])))
    arrays["shown_at"] = timestamps(plan, columns["time_ms"])
    for name, kind in (("session_id", "session"), ("user_id", "user"), ("product_id", "product")):
        arrays[name] = named(kind, columns[name])
    for name, names in (("category", _CATEGORIES), ("device", _DEVICES)):
        arrays[name] = words(columns[name], names)
    return pa.table([arrays[name] for name in SCHEMA.names], schema=SCHEMA)


def _block(plan: GenerationPlan, block: int) -> Columns:
    rng = np.random.default_rng([plan.seed, block, _STREAM])
    _, time_ms = ascending_times(rng, plan, block, _HOUR_SHARE)
    count = len(time_ms)
    sizes = rng.integers(_LEAST, _MOST + 1, count // _LEAST + 1)
    starts = np.append(0, np.cumsum(sizes))
    starts = starts[starts < count]
    session = np.repeat(np.arange(len(starts)), np.diff(starts, append=count))
    user = (plan.entities * rng.random(len(starts)) ** 1.3).astype(np.int64)[session]
    place = np.arange(count) - starts[session]
    begin, step = rng.integers(0, _PRODUCTS, len(starts)), rng.integers(1, _PRODUCTS, len(starts))
    shown = {
        # Sessions do not span blocks, so the number of the first row tells them apart.
        "session_id": block * BLOCK_ROWS + starts[session] + 1,
        "user_id": user,
        "time_ms": time_ms[starts][session],
        "product_id": (begin[session] + place * step[session]) % _PRODUCTS,
        "device": np.searchsorted(_DEVICE_MIX[:-1], rng.random(len(starts)), "right")[session],
    }
    return {**shown, **_known(rng, plan, user, shown["product_id"])}


def _known(rng: np.random.Generator, plan: GenerationPlan, user: np.ndarray, product: np.ndarray) -> Columns:
    """Return what is known of each product and its user when it is shown, and what came of it."""
    count = len(user)
    category = (steady(product, plan.seed + 1) * len(_CATEGORIES)).astype(np.int64)
    price = np.round(_CATEGORY_PRICE[category] * np.exp(1.2 * (steady(product, plan.seed + 2) - 0.5)), 2)
    appeal = steady(product, plan.seed + 3)
    liking = steady(user * len(_CATEGORIES) + category, plan.seed + 4) ** 2
    ratio = np.exp(1.8 * (steady(user, plan.seed + 5) - 0.5) + 0.8 * (steady(product, plan.seed + 2) - 0.5))
    discount, seen = rng.choice(_DISCOUNTS, count), rng.random(count) < 0.15
    liked = (
        1.3 * appeal
        + 2.2 * liking
        - 2.0 * np.abs(np.log(ratio * (1 - discount)))
        + 1.2 * discount
        + 0.5 * seen
        + rng.gumbel(0.0, 0.45, count)
    )
    return {
        "category": category,
        "price": price,
        "discount": discount,
        "rating": np.clip(np.round(3.0 + 1.8 * appeal + rng.normal(0, 0.25, count), 1), 1.0, 5.0),
        "clicks_7d": rng.poisson(20 * np.exp(1.5 * appeal)),
        "price_to_usual": np.round(ratio, 3),
        "category_share": np.round(np.clip(liking + rng.normal(0, 0.08, count), 0, 1), 2),
        "seen_before": seen,
        "grade": (liked > _CLICKED).astype(np.int64) + (liked > _BOUGHT),
    }
