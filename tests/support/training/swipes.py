"""Card swipes with windows over cards and terminals: a use case in time and its made-up table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from data.schema.use_case import UseCase, parse_use_case

SWIPES = """
name = "swipes"
label = "fraud"
key = "swipe_id"
event_time = "at"

[events.swipes]
entities = ["card", "terminal", { columns = ["card", "terminal"] }]
values = { amount = { decimals = 2 } }

[events.reports]
entities = ["terminal"]
values = ["fraud"]
delay = "1d"

[features]
amount = { type = "number" }
card_count_1d = { aggregate = "count", window = "1d", by = "card", events = "swipes" }
card_mean_3d = { aggregate = "mean", of = "amount", window = "3d", by = "card" }
pair_count_3d = { aggregate = "count", window = "3d", by = "card+terminal" }
terminal_risk_2d = { aggregate = "mean", of = "fraud", window = "2d", default = 0, events = "reports" }
amount_ratio = { expression = "amount / card_mean_3d" }

[search]
max_rounds = 10
"""
"""Windows over two entities and their pair, one of them over a label that is known a day later, and an expression."""


def swipes_use_case(text: str = "") -> UseCase:
    """The use case of `SWIPES`, with more text at its top."""
    return parse_use_case(text + SWIPES, "swipes.toml")


def swipes_table(rows: int = 2000, seed: int = 3) -> pa.Table:
    """Swipes of twelve days in the order of time; a swipe is fraud likelier at a terminal that is bad for days."""
    rng = np.random.default_rng(seed)
    minutes = np.sort(rng.integers(0, 12 * 24 * 60, rows))
    terminal = rng.integers(0, 20, rows)
    bad = (terminal + minutes // (4 * 24 * 60)) % 7 == 0
    return pa.table(
        {
            "swipe_id": np.arange(rows),
            "at": pa.array(minutes * 60_000_000 + 1_700_000_000_000_000, pa.timestamp("us", "UTC")),
            "card": [f"c{card}" for card in rng.integers(0, 50, rows)],
            "terminal": terminal,
            "amount": np.round(rng.lognormal(3, 1, rows), 2),
            "fraud": (rng.random(rows) < np.where(bad, 0.5, 0.03)).astype(np.int64),
        }
    )
