"""Offline equals online: how many vectors differ when rows are replayed while a replica of each part is killed.

The graph with two gateways over SQLite, or with `--cassandra` over a node that is started on this machine (Java 11 or
17 and Maven). A twentieth of the rows and events is repeated, late or out of order, and a replica of feature fetch, of
the model and of the gateway is killed with SIGKILL, one after each quarter of the rows.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, write_section
from data.cli.terminal import progress, run_cli
from data.feature_views.events.event_tables import EventTables
from data.settings import Settings
from tests.support.services.application import Workplace, serve_command
from tests.support.services.cassandra import Node
from tests.support.serving.window_app import EVENTS_TOKEN, SWIPES, swipes_bundle, swipes_use_case
from tests.support.training.in_time import timed_reports, timed_swipes
from tune.skew.in_time_comparison import InTimeProof
from tune.skew.in_time_replay import prove_in_time
from tune.skew.in_time_table import InTimeTable
from tune.skew.scratch_stores import ScratchStores
from tune.skew.service_client import ServiceClient

_PARTS = ("FeatureFetch", "Model", "Gateway")
_ROWS, _ROWS_OF_CASSANDRA = 100_000, 20_000
_FIRST_MOMENT = -(2**62)
_ROWS_A_CARD, _ROWS_A_TERMINAL = 28, 80
_TEXT = (
    "Made-up swipes with windows over cards, terminals and their pairs, over reports that are known a day later, and "
    "an expression: sent through the graph with two gateways, each vector compared with the table's, bit for bit."
)
_PACKAGES = ("ray", "numpy", "pyarrow", "cassandra-driver")


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    count = args.rows or (_ROWS_OF_CASSANDRA if args.cassandra else _ROWS)
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as folder, ExitStack() as stack:
        place = Workplace(Path(folder))
        settings = _store(place, args.cassandra, stack)
        asked = _asked(count, args.seed)
        started = time.monotonic()
        proof, killed = _prove(place, settings, asked, args.seed)
        seconds = time.monotonic() - started
    table = markdown_table(["what", "figure"], _figures(proof, killed, seconds))
    described = machine.describe("benchmarks.in_time", argv, _PACKAGES)
    report = "\n\n".join((f"### Rows in time: {settings.store}\n\n{_TEXT}", described, table))
    print(report)
    if args.out:
        write_section(args.out, f"benchmarks.in_time.{settings.store}", report)
    return 0 if proof.passed else 1


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.in_time", description=__doc__)
    parser.add_argument("--cassandra", action="store_true", help="start a node and replay over it")
    parser.add_argument("--rows", type=int, metavar="N", help="rows to ask (default: 100,000; Cassandra: 20,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the rows and of what is disturbed (default: 0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="replace the section of this benchmark in a page")
    return parser.parse_args(argv)


def _store(place: Workplace, cassandra: bool, stack: ExitStack) -> Settings:
    """Return the settings of the service's stores; a node is started where it is asked for."""
    if not cassandra:
        return place.settings
    node = Node(place.folder).start()
    stack.callback(node.kill)
    settings = node.settings()
    names = ("store", "cassandra_hosts", "cassandra_port", "cassandra_keyspace", "cassandra_datacenter")
    place.environment |= {f"RAYSCORE_{name.upper()}": str(getattr(settings, name)) for name in names}
    return settings


def _asked(count: int, seed: int) -> InTimeTable:
    """Return so many rows to ask, after half as many of history."""
    rows = count * 3 // 2
    swipes = timed_swipes(rows, seed, max(rows // _ROWS_A_CARD, 1), max(rows // _ROWS_A_TERMINAL, 1))
    events = EventTables(None, {"reports": timed_reports(swipes)})
    return InTimeTable(swipes, swipes_use_case(), swipes_bundle().manifest, events, _FIRST_MOMENT, count)


def _prove(place: Workplace, settings: Settings, table: InTimeTable, seed: int) -> tuple[InTimeProof, list[str]]:
    use_case = place.folder / "swipes.toml"
    use_case.write_text(SWIPES)
    place.environment |= {
        "RAYSCORE_USE_CASE": str(use_case),
        "RAYSCORE_EVENTS_TOKEN": EVENTS_TOKEN,
        "RAYSCORE_GATEWAY_MIN_REPLICAS": "2",
        "RAYSCORE_FEATURE_TIMEOUT_MS": "3000",
        "RAYSCORE_REQUEST_TIMEOUT_MS": "8000",
    }
    place.publish_champion(swipes_bundle())
    labels = table.rows.column("is_fraud").to_numpy().astype(np.uint8)
    killed: list[str] = []
    with place.running(*serve_command("graph")) as child:
        place.wait_ready(child)
        with (
            closing(ScratchStores(settings, table.use_case, table.manifest)) as stores,
            closing(ServiceClient(place.url, "1", EVENTS_TOKEN)) as service,
            progress("in time", table.count) as advance,
        ):
            watched = _killing(place, table.count, killed, advance)
            return prove_in_time(swipes_bundle(), table, labels, service, stores, seed, watched), killed


def _killing(place: Workplace, count: int, killed: list[str], advance: Callable[[int], None]) -> Callable[[int], None]:
    """Return `advance`, which also kills a replica of the next part after each quarter of the rows."""
    answered = 0

    def advanced(rows: int) -> None:
        nonlocal answered
        answered += rows
        advance(rows)
        if len(killed) < len(_PARTS) and answered * 4 >= count * (len(killed) + 1):
            part = _PARTS[len(killed)]
            os.kill(place.processes(f"ServeReplica:default:{part}")[0], signal.SIGKILL)
            killed.append(part)

    return advanced


def _figures(proof: InTimeProof, killed: Sequence[str], seconds: float) -> list[list[str]]:
    figures = proof.figures
    rows = [
        ["rows compared", f"{proof.compared:,}"],
        ["vectors that differ", f"{proof.differing:,}"],
        ["rows refused", f"{proof.refused:,}"],
        ["rows without an answer of the stores", f"{proof.degraded:,}"],
        ["rows sent again", f"{proof.repeated:,}"],
        ["rows out of order", f"{proof.disordered:,}"],
        ["events stored beside the rows", f"{proof.events:,}"],
        ["events late", f"{proof.late_events:,}"],
        ["events twice", f"{proof.repeated_events:,}"],
        ["killed", ", ".join(killed)],
        ["seconds", f"{seconds:,.0f}"],
    ]
    if figures is not None:
        rows += [[f"{figures.metric} by the table", f"{figures.by_table:.4f}"]]
        rows += [[f"{figures.metric} live", f"{figures.live:.4f}"]]
    return rows


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
