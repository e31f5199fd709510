"""Measure how often the interval of a predicted number holds the true value, on generated tables that differ in kind.

Each table is learned with the product's own parts and fixed parameters, 5 folds, without a search; the holdout takes no
part in it. `delivery_time` is the shipped generator's; the others are made here: counts, and amounts that are often 0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, write_section
from data.cli.command_line import run_cli
from data.schema.use_case import UseCase, load_use_case, parse_use_case
from data.sources.atomic_output import write_table
from data.sources.synthetic.generators import GENERATORS
from data.sources.synthetic.plan import GenerationPlan, shards
from tune.dataset.encoded_examples import prepare
from tune.dataset.training_table import load_training_table
from tune.evaluation.holdout_evaluation import HoldoutEvaluation, judge
from tune.tasks.kinds import learning_task
from tune.training.boosting import base_params
from tune.training.final_fits import MemoryFits, run_here
from tune.training.final_model import complete

_PACKAGES = ("xgboost", "onnxruntime", "numpy")
_DAYS, _END_US = 90, 1_767_225_600_000_000
_PARAMS = {"max_depth": 5, "learning_rate": 0.08, "min_child_weight": 5}
_ROUNDS = 120
_MADE = """
name = "{name}"
label = "label"
task = {{ kind = "regression", objective = "{name}", interval = 0.9 }}
[features]
x = {{ type = "number" }}
z = {{ type = "number" }}
group = {{ type = "category" }}
"""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intervals", description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="rows of each table (default: 20000)")
    parser.add_argument("--seeds", type=int, default=3, help="tables of each kind (default: 3)")
    parser.add_argument("--out", type=Path, help="Markdown file to write the figures into")
    args = parser.parse_args(argv)
    rows = []
    for name in ("delivery_time", "poisson", "tweedie"):
        for seed in range(args.seeds):
            found = _measured(name, args.rows, seed)
            figures, seen = found.holdout.metrics, found.holdout.intervals["coverage"]
            held = f"{figures['coverage']:.1%} ({seen.low:.1%} to {seen.high:.1%})"
            rows.append([name, str(seed), "90 %", held, f"{figures['interval_width']:.3g}", f"{figures['mae']:.3g}"])
    header = ["table", "seed", "declared", "held, of the holdout (95 % interval)", "mean width", "mean absolute error"]
    head = f"{args.rows:,} rows each, a fifth of them the holdout."
    text = "\n\n".join((head, machine.describe("benchmarks.intervals", argv, _PACKAGES), markdown_table(header, rows)))
    print(text)
    if args.out:
        write_section(args.out, "benchmarks.intervals", text)
    return 0


def _measured(name: str, rows: int, seed: int) -> HoldoutEvaluation:
    use_case, table = _delivered(rows, seed) if name in GENERATORS else _made(name, rows, seed)
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as folder:
        write_table(table, Path(folder) / "table.parquet")
        source = load_training_table(Path(folder) / "table.parquet", use_case)
    prepared = prepare(source, use_case)
    params = {**base_params(learning_task(use_case), 1, seed), **_PARAMS}
    model = complete(use_case, prepared, MemoryFits(prepared, params, _ROUNDS, run_here))
    return judge(use_case, source, prepared, model, [])


def _delivered(rows: int, seed: int) -> tuple[UseCase, pa.Table]:
    generator = GENERATORS["delivery_time"]
    plan = GenerationPlan(rows, seed, generator.default_entities(rows, _DAYS), _DAYS, _END_US)
    return load_use_case("delivery_time"), pa.concat_tables(generator.tables(shards(plan, 1)[0]))


def _made(objective: str, rows: int, seed: int) -> tuple[UseCase, pa.Table]:
    rng = np.random.default_rng(seed)
    x, z, group = rng.normal(size=rows), rng.normal(size=rows), rng.choice(["a", "b", "c"], rows)
    counts = rng.poisson(np.exp(0.6 * x + 0.5 * (group == "a"))).astype(np.float64)
    label = counts if objective == "poisson" else counts * rng.gamma(2, 1 + 0.3 * np.abs(z))
    table = pa.table({"x": x, "z": z, "group": group, "label": label})
    return parse_use_case(_MADE.format(name=objective), "made.toml"), table


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
