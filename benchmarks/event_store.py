"""What the event store costs: events appended a second, a row recorded and its slices read, and its windows computed.

SQLite in a folder of its own, or with `--cassandra` a node that is started on this machine (Java 11 or 17 and Maven).
One process, one row at a time; 12 windows over two entities of 200 events each, and 12 over one with a million. Two
minutes or so with the defaults.
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
from functools import partial
from pathlib import Path

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, percentiles_ms, short, write_section
from data.cli.terminal import run_cli
from data.errors import ConfigError
from data.event_store import EventStore, OwnEvent, RowQuery, open_events
from data.feature_views.events.event import Event, EventCodec, event_key
from data.feature_views.online.online_windows import WindowPlan
from data.schema.events.event_source import EventSource
from data.schema.features.window_feature import Aggregate, WindowFeature
from data.settings import Settings
from tests.support.services.cassandra import Node

_PACKAGES = ("numpy", "msgpack", "cassandra-driver")
_DAY = 86_400_000_000
_CALL = 50_000
_HOT, _OF_EACH = 5, 200
_TILES_S, _TILES_POLL_S = 600.0, 2.0
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
_HOT_PLAN = WindowPlan(
    [
        WindowFeature(f"{each.value}_{days}d", each, days * _DAY, 0, "transactions", "terminal", of, None, False)
        for days in (1, 7, 30)
        for each, of in (
            (Aggregate.COUNT, None),
            (Aggregate.MEAN, "amount"),
            (Aggregate.MAX, "amount"),
            (Aggregate.STD, "amount"),
        )
    ],
    _SOURCES,
)
_CODEC = EventCodec(_SOURCES["transactions"])


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as folder, ExitStack() as stack:
        settings = Settings(store="sqlite", var_dir=Path(folder))
        if args.cassandra:
            node = Node(Path(folder) / "node", optimizing=True).start()
            stack.callback(node.kill)
            settings = node.settings()
        store = stack.enter_context(
            closing(open_events(settings, "benchmark", _SOURCES, keep_us=60 * _DAY, create=True))
        )
        rows = [*_appended(store, args.events), *asyncio.run(_recorded(store, args.rows, args.rate))]
        if args.hot:
            rows += _hot(store, args.hot, args.rows, args.rate)
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
    f"{len(_PLAN.features)} windows computed, at the given rate. Last, the same of one terminal with very many events "
    f"in 30 days and {len(_HOT_PLAN.features)} windows of 1, 7 and 30 days, once its tiles are made."
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


def _hot(store: EventStore, events: int, count: int, rate: float) -> list[list[str]]:
    """Append the events of one terminal, have its tiles made, record rows; returns rows of figures."""
    name, first_us = f"{events:,} events of one terminal", time.time_ns() // 1000 - 30 * _DAY
    rows = [[f"{name}, appended a second", f"{_append_hot(store, first_us, events, 0):,.0f}"]]
    query = RowQuery(event_key("~"), None, ("hot",))
    start = time.perf_counter()
    first = asyncio.run(store.fetch(_HOT_PLAN.slices, [query]))[0]
    rows.append([f"{name}, first read (all events), s", f"{time.perf_counter() - start:.2f}"])
    _wait_for_tiles(store, query)
    tiled = asyncio.run(store.fetch(_HOT_PLAN.slices, [query._replace(time_us=first.time_us)]))[0]
    compute = partial(_HOT_PLAN.compute, time_us=first.time_us, key=query.key)
    if compute(first.events) != compute(tiled.events, tiles=tiled.tiles):
        raise ConfigError("what is read from tiles differs from what is read from events")
    work = store.tile_work
    rows.append([f"{name}, tiles made", f"{work.tiles_folded:,}"])
    rows.append([f"{name}, time of making them, s", f"{work.fold_seconds:.1f}"])
    rows.append([f"{name}, tiles and events of a read", f"{len(tiled.tiles[0]):,} and {len(tiled.events[0]):,}"])
    rows += asyncio.run(_read_hot(store, query, count, rate, name))
    rows += asyncio.run(_recorded_hot(store, count, rate, name))
    late = _append_hot(store, first_us + 1, 5_000, events)
    rows.append([f"{name}, late ones appended a second, with tiles", f"{late:,.0f}"])
    return rows


def _wait_for_tiles(store: EventStore, query: RowQuery) -> None:
    """Read on until the store makes no more tiles of what is read."""
    deadline, made = time.monotonic() + _TILES_S, 0
    while made != (made := store.tile_work.tiles_folded) or not made:
        if time.monotonic() > deadline:
            raise ConfigError(f"the tiles of the hot terminal were not made within {_TILES_S:g} s: give it fewer --hot")
        time.sleep(_TILES_POLL_S)
        asyncio.run(store.fetch(_HOT_PLAN.slices, [query]))  # Cassandra makes tiles after a further read only


def _append_hot(store: EventStore, first_us: int, count: int, first_key: int) -> float:
    """Append events of one terminal evenly over 30 days; returns how many a second."""
    made = [_hot_event(first_key + at, first_us + at * 30 * _DAY // count) for at in range(count)]
    start = time.perf_counter()
    for at in range(0, count, _CALL):
        store.append("transactions", made[at : at + _CALL])
    return count / (time.perf_counter() - start)


async def _read_hot(store: EventStore, query: RowQuery, count: int, rate: float, name: str) -> list[list[str]]:
    """Read the windows of one terminal, recording nothing; returns rows of figures."""
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        await store.fetch(_HOT_PLAN.slices, [query])
        seconds.append(time.perf_counter() - start)
        await asyncio.sleep(max(0.0, start + 1 / rate - time.perf_counter()))
    middle = percentiles_ms(seconds)
    return [[f"{name}, read alone, {each}, ms", short(middle[each])] for each in ("p50", "p99")]


async def _recorded_hot(store: EventStore, count: int, rate: float, name: str) -> list[list[str]]:
    """Record rows of one terminal and compute their windows; returns rows of figures."""
    seconds, computed = [], []
    for at in range(count):
        event = _hot_event(f"hot row {at}", 0)
        row = RowQuery(event.key, None, ("hot",), (OwnEvent("transactions", event, True),))
        start = time.perf_counter()
        answer = (await store.fetch(_HOT_PLAN.slices, [row]))[0]
        read = time.perf_counter()
        _HOT_PLAN.compute(answer.events, answer.time_us, row.key, row.own, answer.tiles)
        seconds.append(time.perf_counter() - start)
        computed.append(time.perf_counter() - read)
        await asyncio.sleep(max(0.0, start + 1 / rate - time.perf_counter()))
    rows = []
    for what, measured in (("record, read and compute", seconds), ("of that compute", computed)):
        middle = percentiles_ms(measured)
        rows += [[f"{name}, {what}, {each}, ms", short(middle[each])] for each in ("p50", "p99")]
    return rows


def _hot_event(key: int | str, time_us: int) -> Event:
    key, card = (f"hot {key}", 7) if isinstance(key, int) else (key, 8)
    payload = _CODEC.pack([hash(time_us) % 100_000, str(card), "hot"])
    return Event(event_key(key), time_us, time_us, (None, "hot"), payload)


def _event(key: int | str, time_us: int, card: int, terminal: int) -> Event:
    payload = _CODEC.pack([card * 7 + terminal, str(card), str(terminal)])
    return Event(event_key(key), time_us, time_us, (str(card), str(terminal)), payload)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.event_store", description=__doc__)
    parser.add_argument("--cassandra", action="store_true", help="a Cassandra node in place of SQLite")
    parser.add_argument("--events", type=int, default=500_000, help="events to append")
    parser.add_argument("--rows", type=int, default=3_000, help="rows to record")
    parser.add_argument("--hot", type=int, default=1_000_000, help="events of the hot terminal; 0 for none")
    parser.add_argument("--rate", type=float, default=300, help="rows a second")
    parser.add_argument("--out", type=Path, help="Markdown file to write the figures into")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
