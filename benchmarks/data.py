"""Benchmark of the commands that process tables, in rows/s: generate, convert, materialize, score.

Each is run as a user runs it, as a process of its own with its own small Ray cluster. The rate is the one that the
command reports for its work; the time is of the whole command, starting Python and Ray included.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, medians, short, spread, write_section
from benchmarks.workloads.card_files import write_cards
from data.cli.terminal import err, run_cli
from data.errors import RayscoreError
from tests.support.services.cassandra import Node
from tests.support.training.models import card_table, train_bundle
from tests.support.training.stored_cards import stored_cards

_PACKAGES = ("ray", "pyarrow", "numpy", "onnxruntime", "cassandra-driver")
_PROGRESS = re.compile(r"^(\w[\w ]*): ([\d,]+)(?: of [\d,]+)? rows, ([\d,]+) rows/s, ([\d.]+) s$", re.MULTILINE)
_WRITTEN = re.compile(r"([\d,]+) written to")
Samples = dict[str, list[dict[str, float]]]
"""Figures of every round by command."""


class CommandFailed(RayscoreError):
    """A measured command failed or reported no progress."""


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as name, _cassandra(args.cassandra, name) as node:
        folder = Path(name)
        train_bundle(card_table(20_000), stored_cards(), 100).save(folder / "bundle")
        write_cards(folder / "cards", args.rows, 4)
        samples: Samples = {}
        for round_ in range(args.rounds):
            for title, figures in _round(folder, args.rows, round_, node):
                samples.setdefault(title, []).append(figures)
                shown = f"{figures['rows/s']:,.0f} rows/s, {figures['command s']:.1f} s in all"
                err.print(f"round {round_ + 1}: {title}: {shown}", markup=False)
    report = _report(args, argv, samples)
    print(report)
    if args.out:
        write_section(args.out, "benchmarks.data", report)
    return 0


def measure(command: Sequence[str], environment: dict[str, str]) -> dict[str, float]:
    """Run `python -m COMMAND` and return its rows/s, its wall time in s and, for materialize, the rows written.

    Raises:
        CommandFailed: the exit code was not 0, or no progress was reported.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, "RAY_AUTH_MODE": "disabled", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.perf_counter() - started
    reported = _PROGRESS.findall(done.stderr)
    if done.returncode or not reported:
        raise CommandFailed(f"python -m {' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    _, rows, rate, _ = reported[-1]
    figures = {"rows": _number(rows), "rows/s": _number(rate), "command s": took}
    if written := _WRITTEN.search(done.stdout):
        figures["written"] = _number(written[1])
    return figures


def _round(folder: Path, rows: int, round_: int, node: Node | None) -> Iterator[tuple[str, dict[str, float]]]:
    home = folder / "round"
    home.mkdir()
    sqlite = {"RAYSCORE_SQLITE_FILE": str(home / "online.db")}
    table, wide, csv = str(home / "table"), str(home / "wide"), home / "table.csv"
    generate = ["data", "generate", "--rows", str(rows), "--end", "today", "--files", "4"]
    yield "generate", measure([*generate, table], {})
    measure([*generate, "--entities", str(rows), wide], {})
    pa_csv.write_csv(pq.read_table(table), csv)
    yield "convert", measure(["data", "convert", str(csv), str(home / "converted.parquet")], {})
    yield "materialize, SQLite", measure(["data", "materialize", table], sqlite)
    other = {"RAYSCORE_SQLITE_FILE": str(home / "wide.db")}
    yield "materialize, SQLite, most rows another card", measure(["data", "materialize", wide], other)
    if node is not None:
        cassandra = {
            "RAYSCORE_STORE": "cassandra",
            "RAYSCORE_CASSANDRA_HOSTS": node.address,
            "RAYSCORE_CASSANDRA_KEYSPACE": f"benchmark_{round_}",
        }
        yield "materialize, Cassandra, most rows another card", measure(["data", "materialize", wide], cassandra)
    scored = ["ray_app", "score", "--bundle", str(folder / "bundle"), str(folder / "cards"), str(home / "scores")]
    yield "score", measure(scored, sqlite)
    shutil.rmtree(home)


@contextmanager
def _cassandra(wanted: bool, folder: str) -> Iterator[Node | None]:
    if not wanted:
        yield None
        return
    node = Node(Path(folder) / "cassandra", heap="1g", optimizing=True).start()
    try:
        yield node
    finally:
        node.stop()


def _report(args: argparse.Namespace, argv: Sequence[str], samples: Samples) -> str:
    rows = []
    for title, rounds in samples.items():
        middle = medians(rounds)
        wobble = spread([figures["rows/s"] for figures in rounds])
        written = short(middle["written"]) if "written" in middle else ""
        rows.append([title, short(middle["rows/s"]), f"{wobble:.0%}", written, short(middle["command s"])])
    return "\n\n".join(
        (
            "## Data",
            f"{args.rows:,} generated card transactions in 4 files, each command a process with a Ray cluster of its "
            "own. *rows/s* is of the rows read, as the command reports it, without the start of Python and Ray; "
            "*written* are the entities; *command* is the wall time of all of it, in seconds. "
            "The rows that are scored are others, as many, and bring all of their features along.",
            machine.describe("benchmarks.data", argv, _PACKAGES) + f"\n- medians of {args.rounds} rounds",
            markdown_table(["command", "rows/s", "spread", "written", "command s"], rows),
        )
    )


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cassandra", action="store_true", help="also materialize into a Cassandra node started here")
    parser.add_argument("--out", type=Path, help="Markdown file to write the section into, e.g. docs/performance.md")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
