"""Quality of a drafted use case's model, beside an hour in a notebook: Optuna, XGBoost and native categories.

The newest quarter of a table is kept apart as the test rows (with `--time`), else a quarter at random. On the others
the product drafts a use case and tunes, unchanged; the notebook tunes with one split and fits once more on all of them;
so does scikit-learn's histogram boosting with its defaults. All are judged on the test rows, each difference with its
paired 95 % bootstrap interval. Some minutes a table and seed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
import pandas as pd
import pyarrow as pa
import xgboost
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, write_section
from benchmarks.workloads.binary_task import binary_task
from data.cli.terminal import err, run_cli
from data.distributed.ray_cluster import cluster
from data.errors import ConfigError
from data.schema.outputs.binary_output import BinaryOutput
from data.schema.search import Metric
from data.schema.use_case import parse_use_case
from data.settings import Settings
from data.sources.atomic_output import write_table
from data.sources.draft.use_case_draft import draft
from data.sources.parquet import read_table
from data.transform.encoding import Transform
from data.transform.event_time import event_us
from tune.pipeline.pipeline import learn
from tune.search.study import SearchPlan
from tune.tasks.learning_task import Scored
from tune.training.onnx_export import OnnxScorer

_TEST, _VALIDATION = 0.25, 0.2
_MAX_ROUNDS, _PATIENCE = 2_000, 50
_PACKAGES = ("xgboost", "optuna", "scikit-learn", "ray", "onnxruntime", "numpy")
PRODUCT, NOTEBOOK, HISTOGRAM = "product", "notebook", "HistGradientBoosting"


class Table(NamedTuple):
    """A table divided into rows to learn from and test rows."""

    name: str
    label: str
    time: str | None
    learned: pa.Table
    test: pa.Table

    @property
    def labels(self) -> np.ndarray:
        """The labels of the test rows, uint8 of shape (n,)."""
        return self.test.column(self.label).to_numpy().astype(np.uint8)


class Answer(NamedTuple):
    """Probabilities of the test rows, and the s that it took to get the model."""

    probabilities: np.ndarray
    seconds: float


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    table = divided(args.table, args.label, args.time)
    metric = Metric(args.metric)
    answers: list[dict[str, Answer]] = []
    with cluster():
        for seed in range(args.seeds):
            answers.append({})
            for name, fit in _FITS.items():
                answers[-1][name] = fit(table, metric, args.trials, seed)
                found = binary_task(metric).metrics(table.labels, _scored(answers[-1][name]))[metric.value]
                err.print(f"seed {seed}, {name}: {metric.value} {found:.4f}, {answers[-1][name].seconds:.0f} s")
    text = _report(table, metric, answers, args, argv)
    print(text)
    if args.out:
        write_section(args.out, f"benchmarks.quality.{table.name}", text)
    return 0


def divided(path: Path, label: str, time_column: str | None) -> Table:
    """Read a table and keep a quarter of it apart: the newest rows, or rows at random.

    Raises:
        ConfigError: the label or the time is no column.
    """
    table = read_table(path)
    for name in filter(None, (label, time_column)):
        if name not in table.column_names:
            raise ConfigError(f"{path}: no column '{name}'")
    if time_column is None:
        order = np.random.default_rng(0).permutation(table.num_rows)
    else:
        order = np.argsort(event_us(table.column(time_column), time_column), kind="stable")
    first = round(table.num_rows * (1 - _TEST))
    learned, test = (table.take(pa.array(np.sort(rows))) for rows in (order[:first], order[first:]))
    return Table(path.stem, label, time_column, learned, test)


def _product(table: Table, metric: Metric, trials: int, seed: int) -> Answer:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as folder:
        path = Path(folder) / f"{table.name}.parquet"
        write_table(table.learned, path)
        use_case = parse_use_case(draft(path, table.label, time=table.time), "drafted.toml")
        use_case = use_case.model_copy(update={"search": use_case.search.model_copy(update={"metric": metric})})
        plan = SearchPlan(path, trials, seed)
        bundle = learn(use_case, plan, Settings(var_dir=Path(folder) / "var")).bundle
    seconds = time.perf_counter() - started
    matrix = Transform(bundle.manifest.schema_).matrix(table.test)
    return Answer(OnnxScorer(bundle.onnx).scores(matrix)[:, 0], seconds)


def _notebook(table: Table, metric: Metric, trials: int, seed: int) -> Answer:
    """One split, trials judged by the metric, early stopping by it, and a last fit on all rows."""
    started = time.perf_counter()
    x, y, test = _frames(table)
    last = _validation(table, y, seed)
    matrices = [xgboost.DMatrix(x[rows], y[rows], enable_categorical=True) for rows in (~last, last)]
    fixed = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "eval_metric": {Metric.AUC: "auc", Metric.PR_AUC: "aucpr", Metric.F1: "aucpr"}[metric],
        "nthread": 1,
        "seed": seed,
    }

    def objective(trial: optuna.Trial) -> float:
        params = {
            "max_depth": trial.suggest_int("max_depth", 3, 10),
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
            "min_child_weight": trial.suggest_float("min_child_weight", 1, 20, log=True),
            "subsample": trial.suggest_float("subsample", 0.5, 1),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1),
            "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 10, log=True),
        }
        booster = xgboost.train(
            {**fixed, **params},
            matrices[0],
            _MAX_ROUNDS,
            evals=[(matrices[1], "validation")],
            early_stopping_rounds=_PATIENCE,
            verbose_eval=False,
        )
        trial.set_user_attr("rounds", booster.best_iteration + 1)
        return booster.best_score

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, trials)
    whole = xgboost.DMatrix(x, y, enable_categorical=True)
    booster = xgboost.train({**fixed, **study.best_params}, whole, study.best_trial.user_attrs["rounds"])
    seconds = time.perf_counter() - started
    return Answer(booster.predict(xgboost.DMatrix(test, enable_categorical=True)), seconds)


def _histogram(table: Table, metric: Metric, trials: int, seed: int) -> Answer:
    started = time.perf_counter()
    x, y, test = _frames(table)
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=seed).fit(x, y)
    seconds = time.perf_counter() - started
    return Answer(model.predict_proba(test)[:, 1].astype(np.float32), seconds)


_FITS: dict[str, Callable[[Table, Metric, int, int], Answer]] = {
    PRODUCT: _product,
    NOTEBOOK: _notebook,
    HISTOGRAM: _histogram,
}


def _frames(table: Table) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Features and labels of the rows to learn from, and features of the test rows, text as pandas categories."""
    left_out = [name for name in (table.label, table.time) if name]
    learned, test = (part.drop_columns(left_out).to_pandas() for part in (table.learned, table.test))
    for name in learned.columns:
        if not pd.api.types.is_numeric_dtype(learned[name]):
            # scikit-learn takes 255 words at most: the rarer ones count as missing.
            words = learned[name].value_counts().index[:254]
            learned[name], test[name] = (pd.Categorical(part[name], words) for part in (learned, test))
    return learned, table.learned.column(table.label).to_numpy().astype(np.uint8), test


def _validation(table: Table, labels: np.ndarray, seed: int) -> np.ndarray:
    """Which rows the notebook judges its trials on: the newest, or at random; bool of shape (n,)."""
    if table.time is not None:
        return np.arange(len(labels)) >= round(len(labels) * (1 - _VALIDATION))
    return np.random.default_rng(seed).random(len(labels)) < _VALIDATION


def _scored(answer: Answer) -> Scored:
    return Scored(answer.probabilities.astype(np.float32).reshape(-1, 1), BinaryOutput(threshold=0.5))


def _report(
    table: Table, metric: Metric, answers: list[dict[str, Answer]], args: argparse.Namespace, argv: Sequence[str]
) -> str:
    rows = []
    for seed, found in enumerate(answers):
        scored = {name: _scored(answer) for name, answer in found.items()}
        others = {name: each for name, each in scored.items() if name != PRODUCT}
        gains = binary_task(metric).differences(table.labels, scored[PRODUCT], others)
        for name, answer in found.items():
            figures = binary_task(metric).metrics(table.labels, scored[name])
            gain = gains.get(name)
            interval = "" if gain is None else f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
            shown = [f"{figures[each]:.4f}" for each in (metric.value, "log_loss", "ece")]
            rows.append([name, str(seed), *shown, interval, f"{answer.seconds:.0f}"])
    header = ["model", "seed", metric.value, "log_loss", "ece", f"product's {metric.value} minus its", "seconds"]
    split = f"the newest quarter by `{table.time}`" if table.time else "a quarter at random"
    text = (
        f"### {table.name}\n\n{table.learned.num_rows:,} rows to learn from, {table.test.num_rows:,} test rows "
        f"({split}), {table.labels.mean():.2%} with label 1; {args.trials} trials."
    )
    return "\n\n".join((text, machine.describe("benchmarks.quality", argv, _PACKAGES), markdown_table(header, rows)))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("table", type=Path, help="Parquet file")
    parser.add_argument("--label", required=True, help="column with 0 and 1")
    parser.add_argument("--time", help="column with the event time: the test rows are the newest")
    parser.add_argument("--metric", default="pr_auc", choices=["auc", "pr_auc"], help="default: pr_auc")
    parser.add_argument("--trials", type=int, default=15, help="trials of the searches (default: 15)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds (default: 3)")
    parser.add_argument("--out", type=Path, help="Markdown file to write the figures into")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
