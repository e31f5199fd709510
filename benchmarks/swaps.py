"""Benchmark of model changes under a fixed rate: latency with swaps and without, every answer checked.

Two versions of 100 trees take each other's place, evenly over the measured seconds, in every other round. An answer is
wrong when its probability is not the one that the version it names gives that row. With `--reload` the grace is zero,
so that each swap loads its version anew. With `--shadow` nothing is swapped: in every other round the other version is
a shadow of all traffic.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, short, write_section
from benchmarks.servers.processes import pss_mib
from data.cli.terminal import err, run_cli
from ray_app.loadtest.percentiles import percentiles
from tests.support.load.checked_load import Asked, Checked, checking
from tests.support.services.application import Workplace, serve_command
from tests.support.services.model_swaps import GOOD, TOKEN, Versions
from tests.support.training.models import card_table

_PACKAGES = ("ray", "onnxruntime", "numpy", "uvicorn")
_BODIES = 1000
_WARM_UP_S = 5.0
_PERCENTILES = ("p50", "p99", "p99.9")
_STAGES = ("Gateway", "Model", "Control")
_COLUMNS = ("user_id", "amount", "transaction_hour", "merchant_category", "foreign_transaction", "location_mismatch")


@dataclass
class Swaps:
    """Results of the swaps; `took` is the s from each admin request to its response."""

    took: list[float]
    refused: int = 0


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    # Ended by SIGTERM, it ends the service that it has started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as folder, _serving(Path(folder), args) as versions:
        bodies = _bodies()
        expected = {version: versions.scores(bodies, version) for version in ("1", GOOD)}
        _measure(versions, Asked(versions.place.port, bodies, expected, args.rps, _WARM_UP_S), 0)
        asked = Asked(versions.place.port, bodies, expected, args.rps, args.seconds)
        report = (_shadow if args.shadow else _swaps)(versions, asked, args, argv)
    print(report, flush=True)
    if args.out:
        write_section(args.out, "benchmarks.swaps.shadow" if args.shadow else "benchmarks.swaps", report)
    return 0


def _swaps(versions: Versions, asked: Asked, args: argparse.Namespace, argv: Sequence[str]) -> str:
    before = _memory(versions)
    rows, p99 = [], {"with": list[float](), "without": list[float]()}
    for name in _in_turn(args.rounds):
        seen, made = _measure(versions, asked, args.swaps if name == "with" else 0)
        p99[name].append(seen.p99_ms)
        rows.append(_row(name, seen, made, _memory(versions)))
        err.print(" ".join(rows[-1]), markup=False)
    header = ["swaps", "made", "answers", "errors", "mixed", *_PERCENTILES, "commit p50", "commit p99"]
    header += [f"{stage} MiB" for stage in _STAGES]
    memory = ", ".join(f"{stage} {mib:.0f}" for stage, mib in before.items())
    text = (
        f"{args.rps:g} requests/s for {args.seconds:g} s a row, {args.replicas} gateway and model replica(s) each. "
        "*Mixed*: answers whose score is not that of the version they name. *Commit*: from the request to the admin "
        f"API to its answer that the rules are in force. Times in ms. p99 with swaps / without: {_ratio(p99)}. "
        f"MiB (proportional set size) before the first row: {memory}."
    )
    described = machine.describe("benchmarks.swaps", argv, _PACKAGES)
    return "\n\n".join(("## Swaps: another model under load", text, described, markdown_table(header, rows)))


def _shadow(versions: Versions, asked: Asked, args: argparse.Namespace, argv: Sequence[str]) -> str:
    rows, p99 = [], {"with": list[float](), "without": list[float]()}
    for name in _in_turn(args.rounds):
        versions.act(
            "weight", version=GOOD, weight=100 if name == "with" else 0, mode="shadow" if name == "with" else "live"
        ).raise_for_status()
        seen, _ = _measure(versions, asked, 0)
        p99[name].append(seen.p99_ms)
        rows.append(
            [name, str(len(seen.latency)), str(seen.failed), str(seen.mixed), *_times(seen.latency, *_PERCENTILES)]
        )
        err.print(" ".join(rows[-1]), markup=False)
    verdicts = "; ".join(each["text"] for each in versions.look()["shadows"])
    text = (
        f"{args.rps:g} requests/s for {args.seconds:g} s a row; with a shadow the other version scores every row as "
        f"well. Times of the callers in ms. p99 with a shadow / without: {_ratio(p99)}. What the service says of the "
        f"shadow in the last round: {verdicts or 'nothing, it is taken out'}."
    )
    header = ["shadow", "answers", "errors", "mixed", *_PERCENTILES]
    described = machine.describe("benchmarks.swaps", argv, _PACKAGES)
    return "\n\n".join(("## A shadow beside the champion", text, described, markdown_table(header, rows)))


def _in_turn(rounds: int) -> Iterator[str]:
    """Pairs of a round without and one with, in turn the one and the other first."""
    for number in range(rounds):
        yield from ("without", "with") if number % 2 == 0 else ("with", "without")


def _ratio(p99: Mapping[str, Sequence[float]]) -> str:
    """Median over the pairs, then each of them."""
    pairs = [with_ / without for with_, without in zip(p99["with"], p99["without"], strict=True)]
    return f"median {statistics.median(pairs):.2f} ({', '.join(f'{each:.2f}' for each in pairs)})"


@contextmanager
def _serving(folder: Path, args: argparse.Namespace) -> Iterator[Versions]:
    place = Workplace(folder)
    place.environment |= {f"RAYSCORE_{name}_MAX_REPLICAS": str(args.replicas) for name in ("GATEWAY", "MODEL")}
    place.environment |= {f"RAYSCORE_{name}_MIN_REPLICAS": str(args.replicas) for name in ("GATEWAY", "MODEL")}
    place.environment |= {"RAYSCORE_FEATURE_MAX_REPLICAS": "1"}
    if args.reload:
        place.environment["RAYSCORE_VERSION_GRACE_S"] = "0"
    versions = Versions(place)
    versions.publish(rounds=100)
    place.run("data", "materialize", str(place.write_recent_table(rows=2000))).check_returncode()
    with place.running(*serve_command("graph")) as child:
        place.wait_ready(child)
        versions.wait_settled()
        versions.act("weight", version=GOOD, weight=0).raise_for_status()
        yield versions


def _bodies() -> list[bytes]:
    return [json.dumps(row).encode() for row in card_table(2000).select(_COLUMNS).slice(0, _BODIES).to_pylist()]


def _measure(versions: Versions, asked: Asked, swaps: int) -> tuple[Checked, Swaps]:
    with checking(asked) as future:
        made = _swap(versions, swaps, asked.seconds)
        return future.result(), made


def _swap(versions: Versions, count: int, seconds: float) -> Swaps:
    """Give each version everything in turn, evenly over the time."""
    made = Swaps([])
    started = time.perf_counter()
    with httpx.Client(base_url=versions.place.url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=30) as client:
        for number in range(count):
            time.sleep(max(started + number * seconds / count - time.perf_counter(), 0))
            at = time.perf_counter()
            other = [] if number % 2 else [{"version": GOOD, "weight": 100}]
            done = client.post("/admin/rules", json={"rules": {"challengers": other}})
            made.refused += done.status_code != 200
            made.took.append(time.perf_counter() - at)
    return made


def _memory(versions: Versions) -> dict[str, float]:
    found = {stage: versions.place.processes(f"ServeReplica:default:{stage}") for stage in _STAGES}
    return {stage: sum(pss_mib(pids).values()) for stage, pids in found.items()}


def _row(name: str, seen: Checked, made: Swaps, memory: dict[str, float]) -> list[str]:
    return [
        name,
        str(len(made.took)),
        str(len(seen.latency)),
        f"{seen.failed + made.refused}",
        str(seen.mixed),
        *_times(seen.latency, *_PERCENTILES),
        *(_times(made.took, "p50", "p99") if made.took else ("", "")),
        *(f"{memory[stage]:.0f}" for stage in _STAGES),
    ]


def _times(seconds: Sequence[float], *names: str) -> list[str]:
    found = percentiles(np.array(seconds))
    return [short(found[name] * 1000) for name in names]


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.swaps", description=__doc__)
    parser.add_argument("--swaps", type=int, default=250, help="in each round with them (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=4, help="pairs of rounds, without and with (default: %(default)s)"
    )
    parser.add_argument("--rps", type=float, default=300.0, help="requests a second (default: %(default)g)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each round (default: %(default)g)")
    parser.add_argument("--replicas", type=int, default=1, help="gateways, and models (default: %(default)s)")
    parser.add_argument("--shadow", action="store_true", help="compare with and without a shadow instead")
    parser.add_argument("--reload", action="store_true", help="load the version anew with each swap")
    parser.add_argument("--out", type=Path, help="Markdown file to write a section into")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
