"""The final fits of a table in memory as Ray tasks, side by side where there are CPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray
import ray.exceptions
import xgboost

from data.errors import TrainingFailed
from tune.dataset.encoded_examples import EncodedExamples
from tune.training.boosting import first_line
from tune.training.final_fits import MemoryTask, fit_task, loaded

_ROWS_PER_THREAD = 100_000


def run_on_cluster(
    examples: EncodedExamples, types: Sequence[str], params: Mapping[str, Any], tasks: Sequence[MemoryTask]
) -> list[xgboost.Booster]:
    """Run fits as Ray tasks, as many at once as there are CPUs for; one whose worker dies runs again.

    Raises:
        TrainingFailed: a fit failed, or lost its worker again and again.
    """
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    threads = max(min(examples.rows // _ROWS_PER_THREAD, max(nodes, default=1)), 1)
    remote = ray.remote(num_cpus=threads, max_retries=3)(fit_task)
    shared = ray.put(examples)
    try:
        found = ray.get([remote.remote(shared, types, {**params, "nthread": threads}, task) for task in tasks])
    except ray.exceptions.RayError as exc:
        raise TrainingFailed(f"a final fit of {examples.rows:,} rows failed: {first_line(exc)}") from exc
    return [loaded(raw) for raw in found]
