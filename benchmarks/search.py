"""Benchmark of the search on a small table: Ray Tune against Optuna driving XGBoost in one process.

The peers have the space, the rounds, the split, the sampler and successive halving of the use case. They are run in
turns with the search, on one machine, in one process that has everything imported.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import optuna
import xgboost

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, medians, short, spread, write_section
from benchmarks.workloads.binary_task import binary_task
from data.cli.terminal import err, run_cli
from data.distributed.ray_cluster import cluster, free_cpus
from data.errors import ConfigError
from data.schema.search import Metric, Search
from data.sources.atomic_output import write_table
from tests.support.training.models import card_table
from tests.support.training.stored_cards import stored_cards
from tune.dataset.encoded_examples import PreparedDataset, prepare
from tune.dataset.training_table import load_training_table
from tune.search.asha import rungs
from tune.search.mlflow_runs import MlflowRuns
from tune.search.mlflow_uploader import MlflowUploader
from tune.search.ray_tune import SearchJob, Workers, plan_workers, search
from tune.search.sampler import Sampler, SamplerName, distribution
from tune.search.trial import Trial
from tune.search.trial_scheduler import TrialScheduler
from tune.tasks.binary import BinaryLearning
from tune.training.boosting import base_params, best_round

_PACKAGES = ("ray", "optuna", "xgboost", "mlflow", "numpy")
_EARLY = 20
"""Trials up to which the start counts; what a further trial costs is taken from there on."""
PEERS = {True: "Optuna + XGBoost, every core", False: "Optuna + XGBoost, one thread"}
PLAIN = "Optuna + XGBoost, XGBoost's early stopping"
OURS = "rayscore"
LOGGED = "rayscore, logged to MLflow"


class Ended(NamedTuple):
    """A finished trial, and the s from the start of the search to its end."""

    at: float
    rounds: int
    score: float
    took: float = 0.0


class _Watch(xgboost.callback.TrainingCallback):
    """Reports each round to Optuna, and stops early by the product's rule: the least log loss."""

    def __init__(self, trial: optuna.Trial, patience: int | None) -> None:
        self._trial, self._patience = trial, patience
        self.history: list[float] = []
        self.losses: list[float] = []

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: dict) -> bool:
        # Of each metric cross-validation gives mean and standard deviation over the folds.
        loss, metric = (values[-1][0] for values in evals_log["test"].values())
        self.history.append(metric)
        self.losses.append(loss)
        self._trial.report(max(self.history), epoch + 1)
        if self._trial.should_prune():
            raise optuna.TrialPruned
        stopped = self._patience is not None and epoch - best_round(self.losses) >= self._patience
        if stopped:
            # Cross-validation that ends early cuts its results there, and fails where nobody has said.
            model.set_attr(best_iteration=str(best_round(self.losses)))
        return stopped


def _task(declared: Search) -> BinaryLearning:
    return binary_task(declared.metric or Metric.PR_AUC)


def optuna_search(
    declared: Search, prepared: PreparedDataset, trials: int, seed: int, every_core: bool = True, own_rule: bool = True
) -> list[Ended]:
    """Search with Optuna and xgboost.cv in one process; with `own_rule`, fits stop early by the product's rule."""
    threads = len(os.sched_getaffinity(0)) if every_core else 1
    development, folds = prepared.development, [tuple(rows) for rows in prepared.folds.each()]
    matrix = xgboost.DMatrix(
        development.x,
        development.y,
        feature_types=prepared.feature_types,
        enable_categorical=True,
        nthread=threads,
    )
    space = {name: distribution(declared.space[name]) for name in sorted(declared.space)}
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=rungs(declared.max_rounds)[0], reduction_factor=3)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)
    ended, started = [], time.perf_counter()

    def objective(trial: optuna.Trial) -> float:
        params = {name: trial._suggest(name, each) for name, each in space.items()}
        watch = _Watch(trial, declared.early_stopping_rounds if own_rule else None)
        try:
            xgboost.cv(
                {**base_params(_task(declared), threads, seed), **params},
                matrix,
                declared.max_rounds,
                folds=folds,
                early_stopping_rounds=None if own_rule else declared.early_stopping_rounds,
                callbacks=[watch],
                as_pandas=False,
            )
        finally:
            # By its own rule a fit is worth its best round by the metric, by the product's that of the least loss.
            score = watch.history[best_round(watch.losses)] if own_rule else max(watch.history)
            ended.append(Ended(time.perf_counter() - started, len(watch.history), score))
        return score

    study.optimize(objective, trials)
    return ended


def ray_search(
    declared: Search, prepared: PreparedDataset, trials: int, seed: int, workers: Workers, tracker: MlflowRuns | None
) -> list[Ended]:
    """Search with the product, on the running cluster; with a tracker, it ends once MLflow has every trial."""
    schedule = TrialScheduler(
        Sampler(SamplerName.TPE, declared.space, seed), declared.max_rounds, trials, workers.lag, []
    )
    job = SearchJob(declared, _task(declared), prepared.development, prepared.folds, prepared.feature_types, seed)
    ended, started = [], time.perf_counter()

    def on_trial(trial: Trial) -> None:
        ended.append(Ended(time.perf_counter() - started, len(trial.history), trial.score, trial.seconds))

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "ray"
        if tracker is None:
            search(job, schedule, workers, on_trial, print, scratch)
            return ended
        with MlflowUploader(tracker, tracker.start("benchmark", {}), _task(declared).metric.value, print) as spool:

            def log(trial: Trial) -> None:
                on_trial(trial)
                spool.put([trial])

            search(job, schedule, workers, log, print, scratch)
            spool.drain()
            # The last trial counts as ended when MLflow has all.
            ended[-1] = ended[-1]._replace(at=time.perf_counter() - started)
    return ended


def figures(ended: Sequence[Ended], apart: bool) -> dict[str, float]:
    """Figures in s: the whole search, each further trial, and the start of the first worker (`apart`)."""
    start = ended[0].at - ended[0].took if apart else 0.0
    return {
        "seconds": ended[-1].at - start,
        "worker start s": start,
        "ms a further trial": (ended[-1].at - ended[_EARLY - 1].at) / (len(ended) - _EARLY) * 1000,
        "rounds": sum(each.rounds for each in ended),
        "best": max(each.score for each in ended),
    }


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    if args.trials <= _EARLY:
        raise ConfigError(f"--trials {args.trials}: expected more than {_EARLY}, which are left out of some figures")
    use_case = stored_cards()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samples: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as folder:
        source = load_training_table(args.data or _generated(Path(folder), args.rows), use_case)
        prepared, declared = prepare(source, use_case), use_case.search
        tracker = MlflowRuns(f"sqlite:///{folder}/mlflow.db", Path(folder) / "artifacts", "benchmark")
        started = time.perf_counter()
        with cluster():
            ray_start = time.perf_counter() - started
            workers = plan_workers(sum(free_cpus(wanted=1)), len(prepared.development.y), args.trials, args.concurrency)
            entries: dict[str, Callable[[int], list[Ended]]] = {
                OURS: lambda seed: ray_search(declared, prepared, args.trials, seed, workers, None),
                PEERS[False]: lambda seed: optuna_search(declared, prepared, args.trials, seed, every_core=False),
                PEERS[True]: lambda seed: optuna_search(declared, prepared, args.trials, seed),
                LOGGED: lambda seed: ray_search(declared, prepared, args.trials, seed, workers, tracker),
                PLAIN: lambda seed: optuna_search(declared, prepared, args.trials, seed, own_rule=False),
            }
            for round_ in range(args.rounds):
                for name, run in entries.items():
                    found = figures(run(round_), apart=name in (OURS, LOGGED))
                    samples.setdefault(name, []).append(found)
                    err.print(f"round {round_ + 1}: {name}: {found}", markup=False)
    report = _report(args, argv, samples, len(source.labels), workers, ray_start)
    print(report)
    if args.out:
        write_section(args.out, "benchmarks.search", report)
    return 0


def _generated(folder: Path, rows: int) -> Path:
    write_table(card_table(rows), folder / "card.parquet")
    return folder / "card.parquet"


def _report(
    args: argparse.Namespace,
    argv: Sequence[str],
    samples: dict[str, list[dict[str, float]]],
    rows: int,
    workers: Workers,
    ray_start: float,
) -> str:
    middle = {name: medians(rounds) for name, rounds in samples.items()}
    peer = min((middle[name] for name in PEERS.values()), key=lambda found: found["seconds"])
    lines = []
    for name, found in middle.items():
        wobble = spread([each["seconds"] for each in samples[name]])
        ratio = found["seconds"] / peer["seconds"]
        names = ("seconds", "worker start s", "ms a further trial", "rounds", "best")
        seconds, start, further, boosted, best = (short(found[each]) for each in names)
        lines.append([name, seconds, f"{wobble:.0%}", f"{ratio:.2f}", start, further, boosted, best])
    more = middle[OURS]["ms a further trial"] - peer["ms a further trial"]
    return "\n\n".join(
        (
            "### Cost of the search on a small table",
            f"{args.trials} trials on {rows:,} rows; {workers.concurrency} at once with {workers.nthread} thread(s). "
            f"*seconds* are those of the search from when the first trial begins; Ray's own start ({ray_start:.1f} s) "
            "and that of the worker stand apart. *further trial*: from the 20th on. Fits of the last line end by "
            "the metric alone, the others by the log loss when the metric does not change.",
            machine.describe("benchmarks.search", argv, _PACKAGES) + f"\n- medians of {args.rounds} rounds",
            markdown_table(
                ["search", "seconds", "spread", "ratio", "worker start s", "ms a further trial", "rounds", "best"],
                lines,
            ),
            f"A further trial costs {more:+.1f} ms against the faster peer, to which the ratio is.",
        )
    )


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--data", type=Path, help="table with the columns of the generated one, in its place")
    parser.add_argument("--rows", type=int, default=10_000, help="rows of the generated table")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, help="trials at once; default: what a search would take")
    parser.add_argument("--out", type=Path, help="Markdown file to write the section into, e.g. docs/training.md")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
