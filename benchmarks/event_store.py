"""What the event store costs: events appended a second, a row recorded and its slices read, and its windows computed.

SQLite in a folder of its own, or with `--cassandra` a node that is started on this machine (Java 11 or 17 and Maven).
One process, one row at a time; 12 windows over two entities of 200 events each. About a minute with the defaults.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, percentiles_ms, short, write_section
from data.cli.terminal import run_cli
from data.event_store import EventStore, OwnEvent, RowQuery, open_events
from data.feature_views.event import Event, EventCodec, event_key
from data.feature_views.online_windows import WindowPlan
from data.schema.event_source import EventSource
from data.schema.window_feature import Aggregate, WindowFeature
from data.settings import Settings
from tests.support.services.cassandra import Node

_PACKAGES = ("numpy", "msgpack", "cassandra-driver")
_DAY = 86_400_000_000
_CALL = 50_000
_HOT, _OF_EACH = 5, 200
_SOURCES = {
    "transactions": EventSource.model_validate(
        {"entities": ["card", "terminal"], "values": {"amount": {"decimals": 2}}, "record": True}
    )
}
_PLAN = WindowPlan(
    [
        WindowFeature(f"{by}_{aggregate.value}_{days}d", aggregate, days * _DAY, 0, "transactions", by, of, None, False)
        for by in ("card", "terminal")
        for days in (1, 7)
        for aggregate, of in ((Aggregate.COUNT, None), (Aggregate.MEAN, "amount"), (Aggregate.MAX, "amount"))
    ],
    _SOURCES,
)
_CODEC = EventCodec(_SOURCES["transactions"])


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as folder, ExitStack() as stack:
        settings = Settings(store="sqlite", var_dir=Path(folder))
        if args.cassandra:
            node = Node(Path(folder)).start()
            stack.callback(node.kill)
            settings = node.settings()
        store = stack.enter_context(
            closing(open_events(settings, "benchmark", _SOURCES, keep_us=60 * _DAY, create=True))
        )
        rows = [*_appended(store, args.events), *asyncio.run(_recorded(store, args.rows, args.rate))]
    table = markdown_table(["what", "figure"], rows)
    text = f"## Event store: {settings.store}\n\n{_PLAN_TEXT}"
    report = "\n\n".join((text, machine.describe("benchmarks.event_store", argv, _PACKAGES), table))
    print(report)
    if args.out:
        write_section(args.out, f"benchmarks.event_store.{settings.store}", report)
    return 0


_PLAN_TEXT = (
    f"Events of 5,000 cards at 10,000 terminals are appended in calls of {_CALL:,}, in the order of time. Then single "
    f"rows of cards and terminals with {_OF_EACH} events and more are recorded and read, and their "
    f"{len(_PLAN.features)} windows computed, at the given rate."
)


def _appended(store: EventStore, events: int) -> list[list[str]]:
    """Append events, and the first of them again; returns rows of figures."""
    rnd, start_us = random.Random(1), time.time_ns() // 1000 - 60 * _DAY
    made = [
        _event(at, start_us + at * 30 * _DAY // events, rnd.randrange(5_000), rnd.randrange(10_000))
        for at in range(events)
    ]
    rows = []
    for name, part in (("new events", made), ("repeated events", made[:_CALL])):
        wall, cpu = time.perf_counter(), time.process_time()
        for start in range(0, len(part), _CALL):
            store.append("transactions", part[start : start + _CALL])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        rows.append([f"{name}, a second", f"{len(part) / wall:,.0f}"])
        rows.append([f"{name}, a second of this process's CPU", f"{len(part) / cpu:,.0f}"])
    return rows


async def _recorded(store: EventStore, count: int, rate: float) -> list[list[str]]:
    """Record rows and compute their windows; returns rows of figures."""
    now_us = time.time_ns() // 1000
    for hot in range(_HOT):
        held = [_event(f"{hot}/{at}", now_us - 6 * _DAY + at * 10**9, hot, hot) for at in range(_OF_EACH)]
        store.append("transactions", held)
    fetched, computed = [], []
    for at in range(count):
        event = _event(f"row {at}", 0, at % _HOT, at % _HOT)
        row = RowQuery(event.key, None, event.entities, (OwnEvent("transactions", event, True),))
        start = time.perf_counter()
        answer = (await store.fetch(_PLAN.slices, [row]))[0]
        read = time.perf_counter()
        _PLAN.compute(answer.events, answer.time_us, row.key, row.own)
        fetched.append(read - start)
        computed.append(time.perf_counter() - read)
        await asyncio.sleep(max(0.0, start + 1 / rate - time.perf_counter()))
    rows = []
    for name, seconds in (("record and read", fetched), ("compute", computed)):
        middle = percentiles_ms(seconds)
        rows += [[f"{name}, {each}, ms", short(middle[each])] for each in ("p50", "p99")]
    return rows


def _event(key: int | str, time_us: int, card: int, terminal: int) -> Event:
    payload = _CODEC.pack([card * 7 + terminal, str(card), str(terminal)])
    return Event(event_key(key), time_us, time_us, (str(card), str(terminal)), payload)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.event_store", description=__doc__)
    parser.add_argument("--cassandra", action="store_true", help="a Cassandra node in place of SQLite")
    parser.add_argument("--events", type=int, default=500_000, help="events to append")
    parser.add_argument("--rows", type=int, default=3_000, help="rows to record")
    parser.add_argument("--rate", type=float, default=300, help="rows a second")
    parser.add_argument("--out", type=Path, help="Markdown file to write the figures into")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
