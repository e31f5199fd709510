"""Generated support tickets, for the use case `ticket_routing`: which of four teams a ticket goes to.

A ticket is drawn for a team, and what is known of it by what that team's tickets are like. They overlap: a late parcel
and a wrong invoice are both written about by mail some days after an order. Some tickets lie with the wrong team.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from data.sources.synthetic.draws import (
    Columns,
    ascending_times,
    class_counts,
    class_shares,
    hour_share,
    joined,
    named,
    numbered,
    steady,
    timestamps,
    words,
)
from data.sources.synthetic.plan import GenerationPlan

_STREAM = 3
"""Sets the draws apart from those of other tables of the same seed."""
_HOUR_SHARE = hour_share([1, 1, 1, 1, 1, 2, 4, 8, 14, 17, 17, 15, 12, 14, 16, 15, 13, 11, 9, 8, 7, 5, 3, 2])
TEAMS = ("accounts", "billing", "delivery", "technical")
_TEAM_MIX = np.cumsum([0.14, 0.27, 0.24, 0.35])
_CHANNELS = ("chat", "email", "form", "phone")
_CHANNEL_MIX = np.cumsum(
    [[0.35, 0.2, 0.3, 0.15], [0.1, 0.5, 0.15, 0.25], [0.3, 0.2, 0.15, 0.35], [0.4, 0.25, 0.3, 0.05]], 1
)
"""Of each team the share of the channels that come before; the same below."""
_PRODUCTS = ("app", "hardware", "marketplace", "subscription")
_PRODUCT_MIX = np.cumsum(
    [[0.4, 0.05, 0.15, 0.4], [0.1, 0.15, 0.25, 0.5], [0.03, 0.42, 0.5, 0.05], [0.5, 0.35, 0.03, 0.12]], 1
)
_PLANS = ("business", "free", "pro")
_PLAN_MIX = np.cumsum([0.15, 0.55, 0.3])
_LANGUAGES = ("de", "en", "es", "fr")
_LANGUAGE_MIX = np.cumsum([0.2, 0.55, 0.12, 0.13])
_ERROR_CODES = ("E101", "E204", "E310", "E404", "E502")
_HAS_ERROR = np.array([0.18, 0.04, 0.02, 0.5])
_WORDS = np.array([45.0, 85.0, 60.0, 110.0])
_FAILED_LOGINS = np.array([2.2, 0.25, 0.15, 0.5])
_OPEN_INVOICES = np.array([0.2, 1.3, 0.3, 0.2])
_ATTACHMENTS = np.array([0.1, 0.7, 0.4, 0.8])
_ORDERED = np.array([0.3, 0.75, 0.98, 0.5])
"""Share of the tickets whose customer has ordered something."""
_DAYS_SINCE_ORDER = np.array([60.0, 25.0, 6.0, 70.0])
_MISROUTED = 0.04

SCHEMA = pa.schema(
    [
        ("ticket_id", pa.int64()),
        ("customer_id", pa.string()),
        ("created_at", pa.timestamp("us")),
        ("channel", pa.string()),
        ("product", pa.string()),
        ("plan", pa.string()),
        ("language", pa.string()),
        ("words", pa.int64()),
        ("attachments", pa.int64()),
        ("error_code", pa.string()),
        ("failed_logins_24h", pa.int64()),
        ("open_invoices", pa.int64()),
        ("days_since_order", pa.float64()),
        ("team", pa.string()),
    ]
)
"""Columns of the generated table."""


def tally(rows: pa.Table) -> Counter[str]:
    """Return the number of tickets by team."""
    return class_counts(rows.column("team"))


def outcome(counts: Counter[str], rows: int) -> str:
    """Return the share of each team in words."""
    return class_shares(counts, rows, TEAMS)


def table(plan: GenerationPlan, first: int, last: int) -> pa.Table:
    """Return the rows of the blocks from `first` up to `last` (exclusive), in time order."""
    columns = joined(first, last, lambda block: _block(plan, block))
    arrays: dict[str, pa.Array] = {name: pa.array(values) for name, values in columns.items()}
    arrays["ticket_id"] = pa.array(numbered(first, len(columns["team"])))
    arrays["created_at"] = timestamps(plan, columns["time_ms"])
    arrays["customer_id"] = named("customer", columns["customer_id"])
    arrays["days_since_order"] = pa.array(columns["days_since_order"], from_pandas=True)
    named_columns = {
        "channel": _CHANNELS,
        "product": _PRODUCTS,
        "plan": _PLANS,
        "language": _LANGUAGES,
        "error_code": _ERROR_CODES,
        "team": TEAMS,
    }
    for name, names in named_columns.items():
        arrays[name] = words(columns[name], names)
    return pa.table([arrays[name] for name in SCHEMA.names], schema=SCHEMA)


def _block(plan: GenerationPlan, block: int) -> Columns:
    rng = np.random.default_rng([plan.seed, block, _STREAM])
    _, time_ms = ascending_times(rng, plan, block, _HOUR_SHARE)
    count = len(time_ms)
    customer = (plan.entities * rng.random(count) ** 1.2).astype(np.int64)
    topic = np.searchsorted(_TEAM_MIX[:-1], rng.random(count), "right")
    misrouted = rng.random(count) < _MISROUTED
    team = np.where(misrouted, rng.integers(0, len(TEAMS), count), topic)
    return {
        "time_ms": time_ms,
        "customer_id": customer,
        "plan": np.searchsorted(_PLAN_MIX[:-1], steady(customer, plan.seed + 1), "right"),
        "language": np.searchsorted(_LANGUAGE_MIX[:-1], steady(customer, plan.seed + 2), "right"),
        **_contents(rng, topic),
        "team": team,
    }


def _contents(rng: np.random.Generator, topic: np.ndarray) -> Columns:
    """Return what tickets for a team are like, whichever team they lie with."""
    count = len(topic)
    length = np.exp(np.log(_WORDS[topic]) + 0.6 * rng.normal(size=count))
    error = np.where(rng.random(count) < _HAS_ERROR[topic], rng.integers(0, len(_ERROR_CODES), count), -1)
    ordered = rng.random(count) < _ORDERED[topic]
    days = rng.gamma(1.3, _DAYS_SINCE_ORDER[topic] / 1.3)
    return {
        "channel": _mixed(rng, _CHANNEL_MIX[topic]),
        "product": _mixed(rng, _PRODUCT_MIX[topic]),
        "words": np.maximum(np.rint(length), 3).astype(np.int64),
        "attachments": rng.poisson(_ATTACHMENTS[topic]),
        "error_code": error,
        "failed_logins_24h": rng.poisson(_FAILED_LOGINS[topic]),
        "open_invoices": rng.poisson(_OPEN_INVOICES[topic]),
        "days_since_order": np.where(ordered, np.round(days, 1), np.nan),
    }


def _mixed(rng: np.random.Generator, mix: np.ndarray) -> np.ndarray:
    """Draw a position for each row by the cumulated shares of all, shape (n, positions)."""
    return (rng.random(len(mix))[:, np.newaxis] >= mix[:, :-1]).sum(axis=1)
