"""Benchmark of explained answers: what one explained request in ten does to the others of a running service.

Two open loops run at once, nine tenths of the rate and one tenth. In turn the tenth asks as the others do, or with
`?explain=1`; the others ask the same in both. Their p99 with explanations beside them is divided by that without, round
by round. The service must serve a use case with `[explanation]`, as `rayscore demo` does. Two minutes by default.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import cast

import numpy as np

from benchmarks.clients.open_loop import Route, run_at_rate
from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, short, write_section
from data.cli.terminal import err, run_cli
from data.errors import ConfigError
from data.schema.use_case import UseCase, load_use_case
from data.sources.parquet import read_table
from ray_app.demo.example_requests import request_columns

_PACKAGES = ("ray", "xgboost", "onnxruntime", "numpy")
_SHARE, _BODIES = 0.1, 500
_PLAIN, _EXPLAINED = "/predict", "/predict?explain=1"
Round = dict[str, dict[str, float]]
"""Figures by path of the tenth, and by who asked: `others` and `tenth`."""


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    use_case = load_use_case(args.use_case)
    if use_case.explanation is None:
        raise ConfigError(f"use case '{use_case.name}' has no [explanation]: there is nothing to measure")
    bodies = _bodies(use_case, args.data)
    rounds: list[dict[str, Round]] = []
    for number in range(args.rounds):
        paths = (_PLAIN, _EXPLAINED) if number % 2 == 0 else (_EXPLAINED, _PLAIN)
        rounds.append({path: asyncio.run(_both(args, path, bodies)) for path in paths})
        for path, found in rounds[-1].items():
            told = ", ".join(f"{who} p50 {each['p50']:.2f} p99 {each['p99']:.2f} ms" for who, each in found.items())
            err.print(f"round {number}, {path}: {told}", markup=False)
    text = _report(args, argv, rounds)
    print(text)
    if args.out:
        write_section(args.out, "benchmarks.reasons", text)
    return 0


async def _both(args: argparse.Namespace, path: str, bodies: Sequence[bytes]) -> Round:
    loads = {"others": (_PLAIN, args.rps * (1 - _SHARE)), "tenth": (path, args.rps * _SHARE)}
    found = await asyncio.gather(
        *(
            run_at_rate(Route(args.host, args.port, path=of), bodies, rate, args.seconds, args.warm_up)
            for of, rate in loads.values()
        )
    )
    figures: Round = {}
    for who, each in zip(loads, found, strict=True):
        if each["errors"]:
            err.print(f"{who} at {path}: {each['errors']}", markup=False)
        figures[who] = cast("dict[str, float]", each["figures"])
    return figures


def _bodies(use_case: UseCase, table: Path) -> list[bytes]:
    columns = [name for name in request_columns(use_case) if name not in (use_case.key, use_case.event_time)]
    rows = read_table(table, columns)
    last = rows.slice(max(rows.num_rows - _BODIES, 0)).to_pylist()
    return [json.dumps(row, default=str).encode() for row in last]


def _report(args: argparse.Namespace, argv: Sequence[str], rounds: Sequence[dict[str, Round]]) -> str:
    rows = []
    for figure in ("p50", "p99"):
        without, beside = ([each[path]["others"][figure] for each in rounds] for path in (_PLAIN, _EXPLAINED))
        ratios = [more / less for more, less in zip(beside, without, strict=True)]
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        explained = median(each[_EXPLAINED]["tenth"][figure] for each in rounds)
        seen = (short(median(without)), short(median(beside)), f"{middle:.3f}", f"{low:.3f} to {high:.3f}")
        rows.append([f"{figure} ms", *seen, short(explained)])
    header = ["", "others, none explained", "others, a tenth explained", "ratio", "its quartiles", "the explained"]
    head = f"{args.rps:g} requests a second, one in ten explained, {len(rounds)} rounds of {args.seconds:g} s each way."
    return "\n\n".join((head, machine.describe("benchmarks.reasons", argv, _PACKAGES), markdown_table(header, rows)))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reasons", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="Parquet whose last rows are asked about")
    add("--use-case", default="card_fraud", help="what is served (default: card_fraud)")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8000)
    add("--rps", type=float, default=300.0, help="requests a second (default: 300)")
    add("--seconds", type=float, default=8.0, help="s of a measurement (default: 8)")
    add("--warm-up", type=float, default=2.0, help="s before it (default: 2)")
    add("--rounds", type=int, default=5, help="rounds (default: 5)")
    add("--out", type=Path, help="Markdown file to write the figures into")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
