"""A model with windows over cards and terminals, its table, and the application over a real event store."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.event_store import EventStore
from data.event_store.sqlite.store import SqliteEvents
from data.feature_views.point_in_time import with_windows
from data.schema.use_case import UseCase, parse_use_case
from ray_app.inference.features.event_windows import EventWindows
from ray_app.inference.features.feature_fetch import LocalFeatures
from tests.support.serving.predict_app import ServedApp, build_app
from tests.support.training.models import train_bundle
from tune.registry.bundle import Bundle

EVENTS_TOKEN = "sixteen letters or more"
SWIPES = """
name = "swipes"
label = "is_fraud"
key = "swipe_id"
event_time = "swiped_at"

[events.swipes]
entities = ["card_id", "terminal_id", { columns = ["card_id", "terminal_id"] }]
values = { amount = { decimals = 2 }, channel = { type = "string" } }
record = true

[events.reports]
entities = ["terminal_id"]
values = { fraud = { type = "boolean" } }
key = "report_id"
time = "happened_at"
delay = "1d"

[features]
amount = { type = "number" }
card_count_1d = { aggregate = "count", window = "1d", by = "card_id", events = "swipes" }
card_mean_30d = { aggregate = "mean", of = "amount", window = "30d", by = "card_id" }
card_sum_with_this = { aggregate = "sum", of = "amount", window = "1h", by = "card_id", with_current = true }
card_since_last = { aggregate = "since_last", window = "30d", by = "card_id", events = "swipes" }
pair_count_30d = { aggregate = "count", window = "30d", by = "card_id+terminal_id", events = "swipes" }
terminal_risk_7d = { aggregate = "mean", of = "fraud", window = "7d", default = 0 }
amount_ratio = { expression = "amount / card_mean_30d" }

[features.last_channel]
type = "category"
vocabulary = ["web", "chip"]
aggregate = "last"
of = "channel"
window = "30d"
by = "card_id"
"""
"""A use case with windows over recorded rows and over reports, and an expression."""
START = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(days=5)


def swipes_use_case() -> UseCase:
    """The use case of `SWIPES`."""
    return parse_use_case(SWIPES, "swipes.toml")


def swipe(number: int, minute: float, card: str = "c1", terminal: str = "t1", **values: Any) -> dict[str, Any]:
    """What a client sends of one swipe, so many minutes after the start."""
    moment = (START + timedelta(minutes=minute)).isoformat()
    sent = {"swipe_id": number, "card_id": card, "terminal_id": terminal, "swiped_at": moment}
    return {**sent, "amount": 10.25, "channel": "chip", **values}


def report(number: int, minute: float, fraud: bool, terminal: str = "t1") -> dict[str, Any]:
    """A report of what was found out about a swipe."""
    moment = (START + timedelta(minutes=minute)).isoformat()
    return {"report_id": number, "terminal_id": terminal, "happened_at": moment, "fraud": fraud}


def swipes_table(rows: list[dict[str, Any]], reports: list[dict[str, Any]] | None = None) -> pa.Table:
    """The rows with their windows and expressions, as training has them."""
    use_case = swipes_use_case()
    none = pa.table({"report_id": pa.array([], pa.int64()), "terminal_id": pa.array([], pa.string())})
    none = none.append_column("happened_at", pa.array([], pa.string())).append_column("fraud", pa.array([], pa.bool_()))
    given = pa.Table.from_pylist(reports) if reports else none
    table = pa.Table.from_pylist([{"is_fraud": 0, **row} for row in rows])
    return with_windows(table, use_case, others={"reports": given}).table


@functools.cache
def swipes_bundle() -> Bundle:
    """A model of made-up swipes."""
    rng = np.random.default_rng(7)
    rows = [
        {
            **swipe(at, at * 3 - 4000, f"c{rng.integers(9)}", f"t{rng.integers(5)}"),
            "amount": round(float(rng.lognormal(3, 1)), 2),
            "channel": ("web", "chip")[int(rng.integers(2))],
        }
        for at in range(900)
    ]
    rows = [{**row, "is_fraud": int(row["amount"] > 40 or rng.random() < 0.1)} for row in rows]
    return train_bundle(swipes_table(rows), swipes_use_case(), rounds=5, holds_windows=True)


@contextmanager
def swipes_stage(
    file: Path, open_store: Callable[[], EventStore] | None = None, bundle: Bundle | None = None
) -> Iterator[LocalFeatures]:
    """The feature stage over an event store in a file, or over another one."""
    manifest = (bundle or swipes_bundle()).manifest

    def opened() -> EventStore:
        return SqliteEvents(file, manifest.name, manifest.events, create=True)

    stage = LocalFeatures(None, windows=EventWindows(open_store or opened, manifest, retry_s=0.01))
    try:
        yield stage
    finally:
        stage.close()


@contextmanager
def swipes_app(file: Path, open_store: Callable[[], EventStore] | None = None, **settings: Any) -> Iterator[ServedApp]:
    """The application over an event store in a file, or over another one."""
    with swipes_stage(file, open_store) as stage:
        yield build_app(stage, bundle=swipes_bundle(), **settings)


def bits(value: float | str | None) -> Any:
    """A value so that equal ones are the same bit for bit, a missing one included."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value if isinstance(value, str) else float(value).hex()
