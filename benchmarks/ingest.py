"""Benchmark of `rayscore ingest`, in events/s to SQLite: of a Parquet table, and of a topic of a real Kafka broker.

Each is run as a user runs it, as a process of its own, on the same events. The rate is the one that the command
reports: without the start of Python, and for a topic with the time in which Kafka forms the consumer group.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, medians, short, spread, write_section
from data.cli.terminal import run_cli
from data.errors import RayscoreError
from tests.support.services.kafka import Broker
from tests.support.training.cards_in_time import INGESTED_CARDS

_PACKAGES = ("confluent-kafka", "pyarrow", "numpy")
_PROGRESS = re.compile(r"^ingest: ([\d,]+)(?: of [\d,]+)? \w+, ([\d,]+) \w+/s, ([\d.]+) s$", re.MULTILINE)
_USERS, _TERMINALS = 5_000, 10_000


class CommandFailed(RayscoreError):
    """A measured command failed or reported no progress."""


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    samples: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as name:
        folder = Path(name)
        (folder / "cards.toml").write_text(INGESTED_CARDS)
        table = _table(args.events)
        pq.write_table(table, folder / "t.parquet", row_group_size=250_000)
        broker = Broker(folder / "kafka").start()
        try:
            broker.create_topic("transactions")
            broker.send("transactions", _messages(table))
            address = f"kafka://{broker.address}/transactions"
            for round_ in range(args.rounds):
                var = folder / f"var-{round_}"
                samples.setdefault("Parquet file", []).append(_measure(folder, var / "file", str(folder / "t.parquet")))
                options = (address, "--until-end", "--group", f"round-{round_}")
                samples.setdefault("Kafka topic", []).append(_measure(folder, var / "topic", *options))
        finally:
            broker.kill()
    report = _report(args, argv, samples)
    print(report)
    if args.out:
        write_section(args.out, "benchmarks.ingest", report)
    return 0


def _table(events: int) -> pa.Table:
    random = np.random.default_rng(0)
    ended = time.time_ns() // 1000
    return pa.table(
        {
            "transaction_id": np.arange(events),
            "timestamp": pa.array(ended - np.arange(events)[::-1] * 1_000_000, pa.timestamp("us")),
            "user_id": [f"user_{number}" for number in random.integers(0, _USERS, events)],
            "terminal_id": [f"terminal_{number}" for number in random.integers(0, _TERMINALS, events)],
            "amount": random.integers(1, 100_000, events) / 100,
        }
    )


def _messages(table: pa.Table) -> list[bytes]:
    times = table.column("timestamp").cast(pa.int64())
    rows = table.set_column(1, "timestamp", times).to_pylist()
    return [orjson.dumps(row) for row in rows]


def _measure(folder: Path, var: Path, *words: str) -> dict[str, float]:
    """Run `python -m data ingest` into a store of its own and return its events/s and its wall time in s.

    Raises:
        CommandFailed: the exit code was not 0, or no progress was reported.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "data", "ingest", *words, "--use-case", str(folder / "cards.toml")],
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "RAYSCORE_VAR_DIR": str(var)},
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.perf_counter() - started
    reported = _PROGRESS.findall(done.stderr)
    if done.returncode or not reported:
        raise CommandFailed(f"ingest {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return {"events/s": float(reported[-1][1].replace(",", "")), "command s": took}


def _report(args: argparse.Namespace, argv: Sequence[str], samples: dict[str, list[dict[str, float]]]) -> str:
    rows = []
    for title, rounds in samples.items():
        middle = medians(rounds)
        wobble = spread([figures["events/s"] for figures in rounds])
        rows.append([title, short(middle["events/s"]), f"{wobble:.0%}", short(middle["command s"])])
    return "\n\n".join(
        (
            "## Ingest",
            f"{args.events:,} events of two entities each into SQLite, each command a process of its own. *events/s* "
            "is what the command reports; *command* is the wall time of all of it, in seconds.",
            machine.describe("benchmarks.ingest", argv, _PACKAGES) + f"\n- medians of {args.rounds} rounds",
            markdown_table(["from", "events/s", "spread", "command s"], rows),
        )
    )


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="Markdown file to write the section into, e.g. docs/performance.md")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
