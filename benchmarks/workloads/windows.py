"""The same model with 12 windows that the service computes, and with their values sent: bundles, events and bodies."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.workloads.serving import Workload
from data.event_store import open_events
from data.feature_views.events.event import Event, EventCodec, event_key
from data.feature_views.point_in_time import with_windows
from data.schema.use_case import UseCase, parse_use_case
from data.settings import Settings
from tests.support.training.models import train_bundle
from tune.registry.bundle import Bundle

CARDS = 2_000
OF_EACH = 120
_DAY_US = 86_400_000_000
_REACH_DAYS = 30
_TRAINED, _TREES, _BODIES = 20_000, 100, 5_000
_CALL = 50_000
_HEAD = """
name = "{name}"
label = "is_fraud"
key = "transaction_id"
event_time = "timestamp"
"""
_EVENTS = """
[events.transactions]
entities = ["card", "terminal"]
values = { amount = { decimals = 2 } }
record = true
"""
_SENT = """
[features]
amount = { type = "number" }
foreign = { type = "boolean" }
"""
_WINDOWS = [
    (aggregate, days, by) for by in ("card", "terminal") for days in (1, 7, 30) for aggregate in ("count", "mean")
]
_OF = {"count": 'events = "transactions"', "mean": 'of = "amount"'}
_COMPUTED = '{name} = {{ aggregate = "{aggregate}", window = "{days}d", by = "{by}", {of} }}'
_PLAIN = '{name} = {{ type = "number", optional = true }}'
Body = dict[str, Any]


@dataclass(frozen=True)
class WindowWorkload:
    """Files for servers and load generator, of a model whose windows are computed and of one to which they are sent."""

    computed: Workload
    sent: Workload
    use_case: UseCase

    def fill(self, settings: Settings) -> None:
        """Store `OF_EACH` events of each card and each terminal, none older than the longest window."""
        source = self.use_case.events["transactions"]
        codec, made = EventCodec(source), _history(time.time_ns() // 1000)
        with closing(
            open_events(settings, self.use_case.name, self.use_case.events, keep_us=_REACH_DAYS * _DAY_US, create=True)
        ) as store:
            for start in range(0, made.num_rows, _CALL):
                store.append("transactions", _events(made.slice(start, _CALL), codec))


def prepare(folder: Path) -> WindowWorkload:
    """Train both models on the same rows, and draw bodies without a key: each request is an event of its own."""
    windows, plain = _use_case("windows", _EVENTS, _COMPUTED), _use_case("sent", "", _PLAIN)
    table = with_windows(_rows(_TRAINED), windows).table
    bodies = _rows(_BODIES, seed=12).select(["card", "terminal", "amount", "foreign"]).to_pylist()
    names = [feature.name for feature in windows.schema_.windows]
    values = table.slice(_TRAINED // 2, _BODIES).select(names).to_pylist()
    given = [as_sent(body, row) for body, row in zip(bodies, values, strict=True)]
    bundles = [train_bundle(table, each, _TREES, holds_windows=True) for each in (windows, plain)]
    computed, sent = (
        _workload(folder / each.name, bundle, asked)
        for each, bundle, asked in zip((windows, plain), bundles, (bodies, given), strict=True)
    )
    return WindowWorkload(computed, sent, windows)


def as_sent(body: Body, windows: Mapping[str, float | None]) -> Body:
    """The body of the model to which windows are sent: without the columns of entities."""
    known = {name: value for name, value in windows.items() if value is not None}
    return {"amount": body["amount"], "foreign": body["foreign"], **known}


def swipes(card: str, amounts: Sequence[float], terminal: str = "t0") -> list[Body]:
    """Bodies of one card, each an event of its own, in the order of the amounts."""
    return [{"card": card, "terminal": terminal, "amount": amount, "foreign": False} for amount in amounts]


def _workload(folder: Path, bundle: Bundle, bodies: list[Body]) -> Workload:
    folder.mkdir()
    file = folder / "bodies.json"
    file.write_text(json.dumps(bodies))
    # The online store is opened only for features that are read from it: neither model has one.
    return Workload(folder, bundle.save(folder / "bundle"), folder / "online.db", file, [0.0])


def _rows(count: int, seed: int = 11) -> pa.Table:
    """Transactions of 30 days in the order of time, fraud likelier for large amounts abroad."""
    rng = np.random.default_rng(seed)
    amount = np.round(rng.lognormal(3, 1, count), 2)
    foreign = rng.random(count) < 0.1
    start_us = time.time_ns() // 1000 - _REACH_DAYS * _DAY_US
    moments = start_us + np.sort(rng.integers(0, _REACH_DAYS * _DAY_US, count))
    return pa.table(
        {
            "transaction_id": np.arange(count),
            "timestamp": pa.array(moments, pa.timestamp("us", "UTC")),
            "card": [f"c{card}" for card in rng.integers(0, CARDS, count)],
            "terminal": [f"t{terminal}" for terminal in rng.integers(0, CARDS, count)],
            "amount": amount,
            "foreign": foreign,
            "is_fraud": (rng.random(count) < 0.02 + 0.3 * foreign * (amount > 40)).astype(np.int64),
        }
    )


def _history(now_us: int) -> pa.Table:
    """`OF_EACH` transactions of each card and terminal in the last 29 days, in the order of time."""
    count = CARDS * OF_EACH
    rng = np.random.default_rng(5)
    whose = np.repeat(np.arange(CARDS), OF_EACH)
    return pa.table(
        {
            "key": np.arange(count),
            "at": now_us - 1_000_000 - np.sort(rng.integers(0, (_REACH_DAYS - 1) * _DAY_US, count))[::-1],
            "card": rng.permutation(whose),
            "terminal": rng.permutation(whose),
            "cents": rng.integers(100, 10_000, count),
        }
    )


def _events(rows: pa.Table, codec: EventCodec) -> list[Event]:
    columns = (rows.column(name).to_pylist() for name in ("key", "at", "card", "terminal", "cents"))
    return [
        Event(event_key(key), at, at, (f"c{card}", f"t{terminal}"), codec.pack([cents, f"c{card}", f"t{terminal}"]))
        for key, at, card, terminal, cents in zip(*columns, strict=True)
    ]


def _use_case(name: str, events: str, window: str) -> UseCase:
    """A use case of `_SENT` and the windows, each declared by the template `window`."""
    lines = [
        window.format(name=f"{by}_{aggregate}_{days}d", aggregate=aggregate, days=days, by=by, of=_OF[aggregate])
        for aggregate, days, by in _WINDOWS
    ]
    return parse_use_case("\n".join([_HEAD.format(name=name), events, _SENT, *lines]), f"{name}.toml")
