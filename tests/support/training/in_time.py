"""Swipes and what was found out about them, as a proof in time replays them; and a service in this process for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.settings import Settings
from ray_app.inference.features.feature_fetch import local_features
from tests.support.serving.predict_app import VERSION, build_app
from tests.support.serving.window_app import EVENTS_TOKEN, START
from tests.support.training.skew import listening
from tune.registry.bundle import Bundle
from tune.registry.traffic_rules import TrafficRules


def timed_swipes(rows: int = 700, seed: int = 5, cards: int = 25, terminals: int = 9) -> pa.Table:
    """Swipes of two weeks by some cards at some terminals, some in the same instant, with keys in no order of time."""
    rng = np.random.default_rng(seed)
    minutes = np.sort(rng.integers(-10 * 1440, 4 * 1440, rows))
    return pa.table(
        {
            "swipe_id": rng.permutation(rows),
            "swiped_at": [START + timedelta(minutes=int(each)) for each in minutes],
            "card_id": [f"c{card}" for card in rng.integers(0, cards, rows)],
            "terminal_id": [f"t{terminal}" for terminal in rng.integers(0, terminals, rows)],
            "amount": np.round(rng.lognormal(3, 1, rows), 2),
            "channel": [("web", "chip", None)[at] for at in rng.integers(0, 3, rows)],
            "is_fraud": (rng.random(rows) < 0.2).astype(np.int64),
        }
    )


def timed_reports(table: pa.Table) -> pa.Table:
    """What was found out about every third swipe."""
    part = table.take(pa.array(range(0, table.num_rows, 3)))
    return pa.table(
        {
            "report_id": part.column("swipe_id"),
            "terminal_id": part.column("terminal_id"),
            "happened_at": part.column("swiped_at"),
            "fraud": pa.array([bool(each) for each in part.column("is_fraud").to_pylist()]),
        }
    )


@contextmanager
def service_in_time(settings: Settings, bundle: Bundle, version: str = VERSION) -> Iterator[str]:
    """Serve a model over the stores of the settings; yields its URL."""
    features = local_features(settings, bundle.manifest)
    rules = TrafficRules(use_case=bundle.manifest.name, champion=version, epoch=1)
    app = build_app(features, bundle=bundle, rules=rules, bundles={version: bundle}, events_token=EVENTS_TOKEN)
    assert features is not None
    with closing(features), listening(app.app) as url:
        yield url


def scratch_events(var: Path) -> Path:
    """The file of the scratch events in a var folder."""
    return var / "events.scratch.db"


def remove_newest(file: Path) -> int:
    """Remove the latest event from a store by hand; return its key."""
    with closing(sqlite3.connect(file, timeout=10)) as connection, connection:
        (key,) = connection.execute("SELECT key FROM events ORDER BY time_us DESC LIMIT 1").fetchone()
        connection.execute("DELETE FROM events WHERE key = ?", (key,))
        connection.execute("DELETE FROM entity_events WHERE key = ?", (key,))
    return int.from_bytes(key[1:], "big") - 2**63
