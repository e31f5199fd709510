"""What the online store costs when it is Cassandra: reads, a frozen node, and the served graph beside SQLite.

Starts Cassandra nodes of its own on this machine (Java 11 or 17 and Maven), one, then three.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, medians, short, spread, write_section
from benchmarks.workloads.cassandra_graph import WARM_UP_S, Graph
from benchmarks.workloads.cassandra_reads import (
    CONCURRENT,
    OURS,
    SINGLES,
    VIEW,
    Stored,
    compare,
    warm,
    with_frozen_node,
)
from data.cli.terminal import err, run_cli
from data.online_store.cassandra.store import CassandraStore
from tests.support.services.cassandra import Node, ring

_PACKAGES = ("cassandra-driver", "ray", "numpy")
_BATCHES = (1, 8, 64, 256)
_DELAY, _CONSISTENCY = "cassandra_speculative_delay_ms", "cassandra_read_consistency"
_CASES: dict[str, tuple[bool, dict[str, object]]] = {
    "all nodes answer": (False, {}),
    "a node frozen, delay 0": (True, {_DELAY: 0}),
    "a node frozen, delay 10": (True, {_DELAY: 10}),
    "all nodes answer, LOCAL_QUORUM": (False, {_CONSISTENCY: "LOCAL_QUORUM"}),
    "a node frozen, delay 10, LOCAL_QUORUM": (True, {_DELAY: 10, _CONSISTENCY: "LOCAL_QUORUM"}),
}
Part = tuple[str, str]
"""A text and a table, in Markdown."""


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, _interrupt)  # unwinds, which ends the nodes; in sessions of their own they live on
    for name in args.parts:
        with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as folder:
            text, table = PARTS[name](args, Path(folder))
        report = "\n\n".join((text, machine.describe("benchmarks.cassandra", argv, _PACKAGES), table))
        print(report + "\n", flush=True)
        if args.out:
            write_section(args.out, f"benchmarks.cassandra.{name}", report)
    return 0


def reads(args: argparse.Namespace, folder: Path) -> Part:
    """Measure latency and CPU per key of sequential reads, by batch size; returns text and table."""
    rows: list[list[str]] = []
    for title, replicas, start in (("one node", 1, _one), ("three nodes, 3 replicas", 3, _three)):
        with _running(start, folder / str(replicas)) as nodes:
            stored = Stored(nodes, replicas, args.entities)
            stored.write()
            samples = asyncio.run(compare(stored, _BATCHES, args.rounds, args.seconds))
        for batch in _BATCHES:
            for way in (OURS, SINGLES, CONCURRENT):
                middle = medians(samples[way, batch])
                wobble = spread([figures["cpu us/key"] for figures in samples[way, batch]])
                shown = [short(middle[name]) for name in ("p50", "p99", "cpu us/key")]
                rows.append([title, str(batch), way, *shown, f"{wobble:.0%}", _share(middle["failed"])])
    text = (
        "## Cassandra: reads\n\n"
        f"One read at a time of so many random keys of {args.entities:,}, from one process, at LOCAL_ONE. *get_many* "
        "is the product's: one query for the keys of an owner. The others are the driver's plain ways, with prepared "
        "statements, a token-aware policy and tuples for rows: one query a key, awaited together, and "
        "`execute_concurrent_with_args`, which blocks its thread. *CPU* is us of the client's process, all of its "
        f"threads, for each key. Latencies in ms; medians of {args.rounds} rounds of {args.seconds:g} s, the ways one "
        "after the other in each; *spread* is that of the CPU between the rounds. *failed* are reads that took more "
        "than the 50 ms that the product allows; the plain ways have 10 s."
    )
    header = ["cluster", "keys", "way", "p50", "p99", "CPU us a key", "spread", "failed"]
    return text, markdown_table(header, rows)


def frozen(args: argparse.Namespace, folder: Path) -> Part:
    """Measure reads at a steady rate while one of three nodes is frozen, with and without speculative reads."""
    samples: dict[str, list[dict[str, float]]] = {title: [] for title in _CASES}
    with _running(_three, folder) as nodes:
        stored = Stored(nodes, 3, args.entities)
        stored.write()
        with closing(CassandraStore(stored.settings(), VIEW)) as store:
            asyncio.run(warm(store, stored.keys))
        for _ in range(args.rounds):
            for title, (freeze, fields) in _CASES.items():
                figures = asyncio.run(
                    with_frozen_node(stored, fields, args.read_rate, args.batch, args.frozen_seconds, freeze=freeze)
                )
                samples[title].append(figures)
                err.print(f"{title}: p99 {figures['p99']:.2f} ms, {figures['failed']:.1%} failed", markup=False)
    rows = []
    for title, rounds in samples.items():
        middle = medians(rounds)
        shown = [short(middle[name]) for name in ("p50", "p99", "p99.9", "max")]
        rows.append([title, *shown, _share(middle["failed"])])
    text = (
        "## Cassandra: a frozen node\n\n"
        f"{args.read_rate:g} reads a second of {args.batch} keys each, three nodes with 3 replicas, LOCAL_ONE if not "
        f"said, read timeout 50 ms. The figures are of the {args.frozen_seconds:g} s that begin when one node is "
        "stopped with SIGSTOP, so that its sockets stay open and nothing comes: the driver does not see that for 5 to "
        "10 s. Before, the ring has answered reads at full speed for 20 s. "
        "*delay* is `RAYSCORE_CASSANDRA_SPECULATIVE_DELAY_MS`; 0 asks one replica only. Latencies in ms from "
        f"when a read was due, failed ones included; medians of {args.rounds} rounds."
    )
    return text, markdown_table(["case", "p50", "p99", "p99.9", "max", "failed"], rows)


def graph(args: argparse.Namespace, folder: Path) -> Part:
    """Measure the served graph at a constant rate over Cassandra and over SQLite."""
    samples: dict[str, list[dict[str, float]]] = {}
    with _running(_one, folder / "node") as (node,):
        served = Graph(folder / "graph", node, args.entities)
        for _ in range(args.rounds):
            for store in served.stores:
                figures = served.load(store, args.rate, args.load_seconds)
                samples.setdefault(store, []).append(figures)
                err.print(f"{store}: p50 {figures['p50']:.2f} ms, p99 {figures['p99']:.2f} ms", markup=False)
        cards = len(served.cards)
    rows = []
    for store, rounds in samples.items():
        middle = medians(rounds)
        wobble = spread([figures["p99"] for figures in rounds])
        shown = [short(middle[name]) for name in ("p50", "p90", "p99", "p99.9", "fetch ms", "errors", "degraded")]
        rows.append([store, *shown, f"{wobble:.0%}"])
    text = (
        "## Cassandra: the served graph\n\n"
        f"Open loop: `rayscore loadtest` at {args.rate:g} requests a second for {args.load_seconds:g} s after "
        f"{WARM_UP_S:g} s of warm-up, each for one of {cards:,} stored cards. One replica each of gateway, feature "
        "fetch and model, one Cassandra node (also while SQLite is measured) and the load generator share the machine; "
        "the node has answered reads at full speed for 20 s before. Latencies in ms from when a request was due; "
        "*fetch CPU* is ms of the feature-fetch replica a request; *degraded* are answers without stored values, "
        "warm-up included; *spread* is that of the p99 between the rounds. Medians of "
        f"{args.rounds} rounds, the stores one after the other in each."
    )
    header = ["store", "p50", "p90", "p99", "p99.9", "fetch CPU", "errors", "degraded", "spread"]
    return text, markdown_table(header, rows)


def _one(home: Path) -> list[Node]:
    return [Node(home, heap="1g", optimizing=True).start()]


def _three(home: Path) -> list[Node]:
    return ring(home, optimizing=True)


@contextmanager
def _running(start: Callable[[Path], list[Node]], home: Path) -> Iterator[list[Node]]:
    nodes = start(home)
    try:
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _share(value: float) -> str:
    return f"{value:.1%}" if value else "0"


PARTS: dict[str, Callable[[argparse.Namespace, Path], Part]] = {"reads": reads, "frozen": frozen, "graph": graph}
"""By name, in the order in which they run."""


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cassandra", description=__doc__)
    parser.add_argument("--parts", type=_parts, default=list(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--entities", type=int, default=20_000, help="rows to read; for the graph, of its table")
    parser.add_argument("--seconds", type=float, default=1.0, help="of reads for each way and batch size")
    parser.add_argument("--read-rate", type=float, default=50.0, help="reads a second, with a frozen node")
    parser.add_argument("--batch", type=int, default=8, help="keys a read, with a frozen node")
    parser.add_argument("--frozen-seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second to the graph")
    parser.add_argument("--load-seconds", type=float, default=15.0, help="of load on the graph")
    parser.add_argument("--out", type=Path, help="Markdown file to write sections into, e.g. docs/performance.md")
    return parser.parse_args(argv)


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
