"""The fraud detection handbook's data: published features, offline and over HTTP, and the model card against live.

TRANSACTIONS are raw rows (TRANSACTION_ID, TX_DATETIME, CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT, TX_FRAUD), FEATURES the
published window features of their last days; both Parquet. `rayscore features` computes the windows, `tune` learns from
the rows before the published ones, which are its holdout, and the graph serves the model. Then all of the holdout is
sent in the order of time, with a twentieth of the rows and events repeated, late or out of order.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, write_section
from benchmarks.workloads.handbook import (
    AnswerKeeper,
    Difference,
    PublishedWeek,
    holdout_in_time,
    published_week,
    worst,
    write_transactions,
    write_use_case,
)
from data.cli.terminal import progress, run_cli
from data.schema.use_case import load_use_case
from data.sources.parquet import read_table
from ray_app.demo.steps import Steps
from tests.support.services.application import Workplace, serve_command
from tests.support.serving.window_app import EVENTS_TOKEN
from tune.registry.registry import Registry, ResolvedModel
from tune.registry.traffic_rules import CHAMPION
from tune.skew.in_time_comparison import InTimeProof
from tune.skew.in_time_replay import prove_in_time
from tune.skew.scratch_stores import ScratchStores

MOST_APART = 0.005
"""How far the card's figure and that of the live answers may be from each other."""
_TEXT = (
    "Windows of 1, 7 and 30 days over customers and, with a week's delay, over terminals, from raw transactions. The "
    "published days are the holdout of a search on the rows before them, and are sent to the graph in order."
)
_SORTS = {"_NB_": "counts", "_RISK_": "risks", "_AVG_": "means"}
_PACKAGES = ("ray", "xgboost", "numpy", "pyarrow")


class _Live(NamedTuple):
    """What the service answered."""

    card: float
    """PR-AUC of the holdout by the model card."""
    proof: InTimeProof
    differences: list[Difference]


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as folder:
        week = published_week(args.features)
        offline, live = _measured(Path(folder), week, args)
    figures = _figures(week, offline, live, time.monotonic() - started)
    table = markdown_table(["what", "figure"], figures)
    described = machine.describe("benchmarks.handbook", argv, _PACKAGES)
    report = "\n\n".join(("### The handbook's data", _TEXT, described, table))
    print(report)
    if args.out:
        write_section(args.out, "benchmarks.handbook", report)
    return 0 if _holds(offline, live) else 1


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.handbook", description=__doc__)
    parser.add_argument("transactions", type=Path, metavar="TRANSACTIONS")
    parser.add_argument("features", type=Path, metavar="FEATURES")
    parser.add_argument("--trials", type=int, default=4, help="of the search (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is disturbed (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="replace the section of this benchmark in a page")
    return parser.parse_args(argv)


def _measured(folder: Path, week: PublishedWeek, args: argparse.Namespace) -> tuple[list[Difference], _Live]:
    transactions, features, use_case = (folder / name for name in ("raw.parquet", "features.parquet", "handbook.toml"))
    write_use_case(write_transactions(week, args.transactions, transactions), use_case)
    place = Workplace(folder, use_case)
    place.environment["RAYSCORE_EVENTS_TOKEN"] = EVENTS_TOKEN
    steps = Steps(place.environment, total=5)
    steps.run("compute the windows", ["features", str(transactions), str(features)])
    offline = week.differences(read_table(features, [week.use_case.key or "", *week.names]))
    steps.run("search", ["tune", "--data", str(features), "--trials", str(args.trials)])
    steps.run("promote", ["promote"])
    with place.running(*serve_command("graph")) as child:
        with steps.timed("serve run ray_app:graph"):
            place.wait_ready(child)
        with steps.timed("send the holdout"):
            return offline, _live(place, week, transactions, args.seed)


def _live(place: Workplace, week: PublishedWeek, transactions: Path, seed: int) -> _Live:
    """Send the champion's holdout, and hold what is answered against its card and the published features."""
    settings, use_case = place.settings, load_use_case(place.settings.use_case)
    registry = Registry(settings.tracking_uri, settings.artifact_dir)
    model: ResolvedModel = registry.resolve(use_case.name, CHAMPION)
    bundle = model.bundle
    table = holdout_in_time(registry, model, use_case, transactions)
    labels = table.rows.column(use_case.label).to_numpy().astype(np.uint8)
    with (
        closing(ScratchStores(settings, use_case, bundle.manifest)) as stores,
        closing(AnswerKeeper(place.url, model.version, EVENTS_TOKEN, week)) as service,
        progress("in time", table.count) as advance,
    ):
        proof = prove_in_time(bundle, table, labels, service, stores, seed, advance)
    return _Live(bundle.manifest.metrics[use_case.metric.value], proof, week.differences(service.table()))


def _holds(offline: Sequence[Difference], live: _Live) -> bool:
    figures = live.proof.figures
    same = not any(each.differing for each in (*offline, *live.differences))
    return same and live.proof.passed and figures is not None and abs(figures.live - live.card) <= MOST_APART


def _figures(week: PublishedWeek, offline: Sequence[Difference], live: _Live, seconds: float) -> list[tuple[str, str]]:
    proof = live.proof
    rows = [("published rows, features", f"{week.table.num_rows:,}, {len(week.names)}")]
    for where, differences in (("offline", offline), ("over HTTP", live.differences)):
        rows += [(f"{word} {where}: differing, largest", _told(differences, part)) for part, word in _SORTS.items()]
    rows += [
        ("rows sent; vectors that differ from the table's", f"{proof.compared:,}; {proof.differing:,}"),
        ("rows refused, without an answer of the stores", f"{proof.refused:,}, {proof.degraded:,}"),
        ("rows sent again, out of order", f"{proof.repeated:,}, {proof.disordered:,}"),
        ("events stored beside them; late, twice", _stored(proof)),
        ("PR-AUC by the model card", f"{live.card:.4f}"),
    ]
    if proof.figures is not None:
        rows += [("PR-AUC live", f"{proof.figures.live:.4f}")]
    return [*rows, ("seconds, with search", f"{seconds:,.0f}")]


def _told(differences: Sequence[Difference], part: str) -> str:
    found = worst(differences, part)
    return f"{found.differing:,} of {found.rows:,}, {found.largest:.1e}"


def _stored(proof: InTimeProof) -> str:
    return f"{proof.events:,}; {proof.late_events:,}, {proof.repeated_events:,}"


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
