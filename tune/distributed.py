"""The final fit on the cluster: xgboost_ray, which shards rows over actors that all-reduce their histograms.

xgboost_ray 0.1.19 is the last release and calls XGBoost's tracker by its signature of 2021. The two
functions that start and stop the tracker are replaced here for the time of a fit; everything else of
the library works with XGBoost 3.2 as it is. The versions are pinned, and a test holds the result
against plain XGBoost.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray
import xgboost
import xgboost_ray
import xgboost_ray.main
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, remove_placement_group
from xgboost.tracker import RabitTracker

from data.errors import TrainingFailed
from tune.train import first_line

_STOP_TIMEOUT_S = 5


def fit_distributed(
    params: Mapping[str, Any], x: np.ndarray, y: np.ndarray, rounds: int, actors: int | None = None
) -> xgboost.Booster:
    """Boost exactly `rounds` rounds over all rows; needs a running Ray.

    Args:
        params: XGBoost parameters; `nthread` is replaced by the CPUs of an actor.
        x: float32 of shape (n, k), NaN = missing.
        y: labels 0 and 1 of shape (n,).
        rounds: boosting rounds.
        actors: processes to shard over; default one a node that has a free CPU.

    Raises:
        TrainingFailed: an actor died, or XGBoost refused the parameters.
    """
    actors = actors or _free_nodes()
    cpus = max(int(ray.available_resources().get("CPU", 1)) // actors, 1)
    distributed = {name: value for name, value in params.items() if name != "nthread"}
    names = [f"f{i}" for i in range(x.shape[1])]
    try:
        with _present_tracker(), _quiet():
            data = xgboost_ray.RayDMatrix(x, y.astype(np.float32), feature_names=names)
            ray_params = xgboost_ray.RayParams(num_actors=actors, cpus_per_actor=cpus, verbose=False)
            booster = xgboost_ray.train(distributed, data, num_boost_round=rounds, ray_params=ray_params)
    except (RuntimeError, ValueError, RayError) as exc:
        raise TrainingFailed(f"the final fit on {actors} actors failed: {_reason(exc)}") from exc
    booster.feature_names = None
    return booster


def _free_nodes() -> int:
    free = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    return max(min(len(free), int(ray.available_resources().get("CPU", 1))), 1)


def _reason(exc: BaseException) -> str:
    # The cause arrives as text, a remote stack trace in it: the message is after the last XGBoostError.
    while exc.__cause__ is not None:
        exc = exc.__cause__
    return first_line(exc).rsplit("XGBoostError: ", 1)[-1].split("  The above exception")[0]


@contextmanager
def _present_tracker() -> Iterator[None]:
    """Replace the library's outdated parts, and free what a failed fit of its keeps reserved."""
    main = xgboost_ray.main
    before = main._start_rabit_tracker, main._stop_rabit_tracker, main._create_placement_group
    reserved: list[PlacementGroup] = []

    def reserve(*args: Any, **kwargs: Any) -> PlacementGroup:
        reserved.append(before[2](*args, **kwargs))
        return reserved[-1]

    main._start_rabit_tracker, main._stop_rabit_tracker = _start_tracker, _stop_tracker
    main._create_placement_group = reserve
    try:
        yield
    finally:
        main._start_rabit_tracker, main._stop_rabit_tracker, main._create_placement_group = before
        # The library removes its reservation after a success only; left behind, it would starve the cluster.
        for group in reserved:
            remove_placement_group(group)


def _start_tracker(workers: int) -> tuple[RabitTracker, dict[str, Any]]:
    tracker = RabitTracker(n_workers=workers, host_ip=ray.util.get_node_ip_address())
    tracker.start()
    return tracker, dict(tracker.worker_args())


def _stop_tracker(tracker: RabitTracker) -> None:
    try:
        tracker.wait_for(timeout=_STOP_TIMEOUT_S)
    except (ValueError, xgboost.core.XGBoostError):
        # Actors that died never say goodbye; freeing the tracker below ends it all the same.
        logging.getLogger(__name__).debug("the tracker did not end by itself", exc_info=True)
    tracker.free()


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
