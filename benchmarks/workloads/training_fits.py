"""Time one final fit in a process of its own: `python -m benchmarks.workloads.training_fits KIND SHARDS ROUNDS`.

Each fit runs twice, first with a tenth of the rounds: the difference gives the cost of a round without that of the
start. With `prepare TABLE FOLDER` it streams the table into shards instead. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
import ray.train
import xgboost
from ray.train.xgboost import RayTrainReportCallback, XGBoostTrainer

from benchmarks.workloads import training_table
from benchmarks.workloads.binary_task import binary_task
from data.distributed.ray_cluster import cluster
from data.schema.search import Metric
from data.schema.use_case import parse_use_case
from data.settings import load_settings
from data.sources.parquet import open_source
from tune.dataset.shards import Shards
from tune.dataset.streaming import prepare_streaming, rows_in_memory
from tune.training.boosting import base_params
from tune.training.distributed import fit_distributed
from tune.training.quantile_matrix import build_matrix

CORES = 2
PARAMS = {
    **base_params(binary_task(Metric.PR_AUC), CORES, 0),
    "max_depth": 6,
    "learning_rate": 0.1,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
}
Fit = Callable[[int], xgboost.Booster]


def main(argv: Sequence[str]) -> int:
    kind, folder, last = argv
    figures = _prepare(Path(folder), Path(last)) if kind == "prepare" else _fit(kind, load(Path(folder)), int(last))
    print(json.dumps(figures))
    return 0


def _prepare(table: Path, folder: Path) -> dict[str, float]:
    use_case = parse_use_case(training_table.USE_CASE, "benchmarks.workloads.training_table")
    with cluster(CORES):
        started = time.perf_counter()
        source = open_source(table)
        fits = rows_in_memory(len(use_case.columns), load_settings().train_memory_mb)
        _, prepared = prepare_streaming(source, use_case, folder, min(fits, source.rows))
        took = time.perf_counter() - started
    assert prepared.shards is not None
    save(prepared.shards.train)
    return {"seconds": took, "train rows": prepared.shards.train.rows}


def _fit(kind: str, shards: Shards, rounds: int) -> dict[str, float]:
    with nullcontext() if kind in _ALONE else cluster(CORES):
        fit = _FITS[kind](shards)
        short = max(rounds // 10, 1)
        few, all_ = _timed(fit, short), _timed(fit, rounds)
    return {
        "seconds": all_.seconds,
        "seconds a round": (all_.seconds - few.seconds) / (rounds - short),
        "bytes a round": (all_.sent - few.sent) / (rounds - short),
        "histograms a round": _histograms(all_.booster) / rounds,
    }


def save(shards: Shards) -> None:
    """Write the shards' metadata beside them, for `load` in another process, and a Parquet copy for Ray Train."""
    (shards.folder / "shards.json").write_text(json.dumps([shards.features, shards.sizes]))
    copy = shards.folder / "parquet"
    copy.mkdir()
    for number, (x, y) in enumerate(shards.blocks(0, shards.rows)):
        columns = {f"f{i}": np.ascontiguousarray(x[:, i]) for i in range(shards.features)}
        pq.write_table(pa.table(columns | {"y": np.asarray(y)}), copy / f"{number:05d}.parquet")


def load(folder: Path) -> Shards:
    """Open the shards that `save` described."""
    features, sizes = json.loads((folder / "shards.json").read_text())
    return Shards(folder, features, tuple((name, count) for name, count in sizes))


class _Timed(NamedTuple):
    booster: xgboost.Booster
    seconds: float
    sent: int
    """Bytes over the loopback interface."""


def _timed(fit: Fit, rounds: int) -> _Timed:
    sent, started = _loopback_bytes(), time.perf_counter()
    booster = fit(rounds)
    return _Timed(booster, time.perf_counter() - started, _loopback_bytes() - sent)


def _alone(shards: Shards) -> Fit:
    """XGBoost in this process on rows in memory: the lower bound of the fit's time."""
    blocks = list(shards.blocks(0, shards.rows))
    x, y = (np.concatenate([block[part] for block in blocks]) for part in (0, 1))
    return lambda rounds: xgboost.train(PARAMS, xgboost.QuantileDMatrix(x, y, nthread=CORES), rounds)


def _external(shards: Shards) -> Fit:
    def fit(rounds: int) -> xgboost.Booster:
        with tempfile.TemporaryDirectory(dir=shards.folder) as cache:
            matrix = build_matrix(shards, range(shards.rows), _types(shards), CORES, None, Path(cache) / "cache")
            return xgboost.train(PARAMS, matrix, rounds)

    return fit


def _types(shards: Shards) -> list[str]:
    """Every feature is taken for a number, as the peers take it."""
    return ["q"] * shards.features


def _actors(count: int) -> Callable[[Shards], Fit]:
    return lambda shards: lambda rounds: fit_distributed(PARAMS, shards, _types(shards), rounds, count)


def _ray_train(shards: Shards) -> Fit:
    """Ray Train's XGBoostTrainer as its documentation shows it, one worker with a thread per core."""

    def per_worker(config: dict[str, Any]) -> None:
        frame = ray.train.get_dataset_shard("train").materialize().to_pandas()
        matrix = xgboost.DMatrix(frame.drop("y", axis=1), label=frame["y"])
        xgboost.train(PARAMS, matrix, config["rounds"], callbacks=[RayTrainReportCallback()])

    def fit(rounds: int) -> xgboost.Booster:
        with tempfile.TemporaryDirectory() as storage:
            result = XGBoostTrainer(
                per_worker,
                train_loop_config={"rounds": rounds},
                datasets={"train": ray.data.read_parquet(str(shards.folder / "parquet"))},
                scaling_config=ray.train.ScalingConfig(num_workers=1),
                run_config=ray.train.RunConfig(storage_path=storage),
            ).fit()
            return RayTrainReportCallback.get_model(result.checkpoint)

    return fit


def _histograms(booster: xgboost.Booster) -> int:
    """Number of histograms built: one per root, and one per split whose children may be split again.

    Of two children only one is built; the other is its parent's less the first (`subtraction trick`).
    """
    count = 0
    for tree in booster.get_dump(dump_format="json"):
        level, depth = [json.loads(tree)], 0
        count += 1
        while level and depth < PARAMS["max_depth"] - 1:
            split = [node for node in level if "children" in node]
            count += len(split)
            level, depth = [child for node in split for child in node["children"]], depth + 1
    return count


def _loopback_bytes() -> int:
    lines = Path("/proc/net/dev").read_text().splitlines()
    return next(int(line.split()[9]) for line in lines if line.strip().startswith("lo:"))


_ALONE = ("alone", "external")
_FITS: dict[str, Callable[[Shards], Fit]] = {
    "alone": _alone,
    "external": _external,
    "actors-1": _actors(1),
    "actors-2": _actors(2),
    "ray-train": _ray_train,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
