"""The final fit on the cluster by xgboost_ray: each actor reads its own rows, and their histograms are all-reduced.

xgboost_ray 0.1.19 is the last release; the project is archived. Three parts of it are replaced here, the rest works
with XGBoost 3.2 as it is. The versions are pinned, and a test compares the result with plain XGBoost.

- In the driver process: it calls XGBoost's tracker by a signature that is gone (`tune.training.rabit_tracker`).
- In the actors: it reads Parquet by pandas, into the object store, out of it and into a DMatrix, which makes four
  copies. Here an actor maps its rows and quantizes them block by block.
- In the actors: it numbers them by the address of an object, so that two equal fits sum in different order and end
  with different bits. Here they are numbered by rank.

A fit that lost an actor starts again from its first round: continued from a checkpoint it would draw other rows and
columns than an unbroken one, and end with another model.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
import xgboost
import xgboost_ray
import xgboost_ray.main
import xgboost_ray.session
import xgboost_ray.util
from ray import cloudpickle
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, remove_placement_group
from xgboost.collective import CommunicatorContext

from data.distributed.ray_cluster import free_cpus
from data.errors import DataError, TrainingFailed
from data.sources.filesystems import url
from tune.dataset.encoded_examples import EncodedExamples
from tune.dataset.shards import Shards, shares
from tune.training.boosting import first_line
from tune.training.quantile_matrix import USABLE, build_matrix, fitting
from tune.training.rabit_tracker import TrackerProcess

_CPU_PATIENCE_S = 3.0
_ANSWER_TIMEOUT_S = 10.0
_TRIES = 3

_log = logging.getLogger(__name__)


def fit_distributed(
    params: Mapping[str, Any],
    source: EncodedExamples | Shards,
    types: Sequence[str],
    rounds: int,
    actors: int | None = None,
    usable: float = USABLE,
) -> xgboost.Booster:
    """Boost exactly `rounds` rounds over all rows; needs a connection to Ray.

    The model's bytes depend on the rows and their order, `params`, `rounds` and `actors` alone: not on threads, on
    whether the matrix was in memory, or on actors that were lost.

    Args:
        params: XGBoost parameters; `nthread` is replaced by the CPUs of an actor.
        source: rows in memory, or shards in a folder that every node sees under the same path.
        types: of each feature "q" for a number or "c" for a category.
        rounds: boosting rounds.
        actors: number of processes that share the rows; by default one per node with a free CPU. Each gets the same
            number of CPUs, the largest for which all find a place.
        usable: share of a machine's free memory that the matrices of shards may take before they go to disk.

    Returns:
        The booster with `rounds` rounds.

    Raises:
        TrainingFailed: actors died again and again, found no free CPUs, or XGBoost refused the parameters.
        DataError: a shard cannot be read.
    """
    free = free_cpus(patience_s=_CPU_PATIENCE_S)
    actors = min(actors or max(sum(map(bool, free)), 1), source.rows)
    rows = _FitMatrix(source, types, actors, params.get("max_bin"), usable)
    for left in reversed(range(_TRIES)):
        library = _Library()
        try:
            with library, _quiet():
                return _boost(params, rows, rounds, actors, cpus_of_an_actor(free, actors))
        except TimeoutError as exc:
            raise _starved(actors, free) from exc
        except (RuntimeError, ValueError, RayError) as exc:
            if not library.lost or not left:
                raise _translated(exc, actors) from exc
            _log.warning("a process of the final fit was lost; it starts again (%d more tries)", left)
    raise AssertionError("the last try returns or raises")


def _boost(params: Mapping[str, Any], rows: _FitMatrix, rounds: int, actors: int, cpus: int) -> xgboost.Booster:
    ray_params = xgboost_ray.RayParams(
        num_actors=actors, cpus_per_actor=cpus, checkpoint_frequency=rounds + 1, verbose=False
    )
    distributed = {name: value for name, value in params.items() if name != "nthread"}
    return xgboost_ray.train(distributed, rows, num_boost_round=rounds, ray_params=ray_params)


class _FitMatrix(xgboost_ray.RayDMatrix):
    """The RayDMatrix that xgboost_ray sends to its actors: it holds where the rows are, not the rows."""

    def __init__(
        self, source: EncodedExamples | Shards, types: Sequence[str], actors: int, max_bin: int | None, usable: float
    ) -> None:
        # The file need not exist: its name only tells the library that the actors load their rows themselves.
        super().__init__(["rows.parquet"], label="label", distributed=True)
        self._parts = shares(source.rows, actors)
        self._neighbours = -(-actors // len(_nodes()))
        self._types, self._max_bin, self._usable = types, max_bin, usable
        self._shards = source if isinstance(source, Shards) else None
        self._examples: Any = None if isinstance(source, Shards) else ray.put(source)

    def assert_enough_shards_for_actors(self, num_actors: int) -> None:
        """Overrides the library's check for a file per actor: rows are divided among any number of actors."""

    def assign_shards_to_actors(self, actors: object) -> bool:
        """Overrides the library's assignment of files by node: parts are assigned by rank."""
        return False

    def get_data(self, rank: int, num_actors: int | None = None) -> dict[str, Any]:
        """Return the row range of an actor; runs in the actor, and checks that its shards can be read there."""
        if self._shards is not None:
            self._shards.check()
        _prepare_actor(rank)
        return {"data": self._parts[rank]}

    def build(self, part: range, nthread: int) -> xgboost.DMatrix:
        """Build the matrix of a part; runs in an actor that is connected to the others, as all agree on the bins."""
        if self._shards is None:
            return build_matrix(ray.get(self._examples), part, self._types, nthread, self._max_bin, None)
        plan = fitting(len(part), self._shards.features, self._neighbours, self._usable)
        cache = _cache_folder(self._shards) / f"cache-{os.getpid()}" if plan.external else None
        if plan.external:
            message = f"final fit, {len(part):,} rows an actor: {plan}"
            xgboost_ray.session.put_queue(partial(_log.warning, message))
        return build_matrix(self._shards, part, self._types, nthread, self._max_bin, cache)


def _cache_folder(shards: Shards) -> Path:
    """Return where a matrix that does not fit into memory goes: beside the shards, or, of a URL, on this disk."""
    return Path(tempfile.gettempdir()) if url(shards.folder) else shards.folder


def _prepare_actor(rank: int) -> None:
    """Replace, in an actor's process, the library's matrix by ours and its task id by one that sorts by rank."""
    main = xgboost_ray.main
    main._get_dmatrix = _matrix
    main._RabitContext = partial(_context, rank)
    main.put_queue = _put_without_checkpoints


def _put_without_checkpoints(item: object) -> None:
    """Send an item to the driver, unless it is a checkpoint.

    The library makes one after the first round whatever `checkpoint_frequency` says. Nothing reads it here, and the
    process of the queue would import XGBoost and xgboost_ray to unpickle it: 3.5 s of a CPU for every fit.
    """
    if not isinstance(item, xgboost_ray.main._Checkpoint):
        xgboost_ray.session.put_queue(item)


def _matrix(rows: _FitMatrix, loaded: Mapping[str, Any]) -> xgboost.DMatrix:
    try:
        return rows.build(loaded["data"], loaded["nthread"])
    except DataError as exc:
        # The library's thread passes on errors of XGBoost only.
        raise xgboost.core.XGBoostError(str(exc)) from exc


def _context(rank: int, _name: str, arguments: dict[str, Any]) -> CommunicatorContext:
    return CommunicatorContext(**arguments, dmlc_task_id=f"{rank:06d}")


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]


def cpus_of_an_actor(free: Sequence[int], actors: int) -> int:
    """Return the most CPUs that each of `actors` actors can have.

    Args:
        free: free CPUs of each node.
        actors: number of actors, all with the same number of CPUs.

    Returns:
        The number, and 1 when there is no place for all of them.
    """
    fitting = (cpus for cpus in range(max(free, default=1), 1, -1) if sum(node // cpus for node in free) >= actors)
    return next(fitting, 1)


def _starved(actors: int, free: Sequence[int]) -> TrainingFailed:
    by_node = ", ".join(str(cpus) for cpus in sorted(free, reverse=True))
    return TrainingFailed(
        f"the final fit found no place for {actors} actors within {xgboost_ray.main.ENV.PLACEMENT_GROUP_TIMEOUT_S} s: "
        f"free CPUs when it began, by node: {by_node or 'none'}. Wait until other jobs of the cluster end or add a "
        "node, then run the same command with --resume; RXGB_PLACEMENT_GROUP_TIMEOUT_S sets how many seconds it waits"
    )


def _translated(exc: BaseException, actors: int) -> DataError | TrainingFailed:
    while True:
        if isinstance(exc, RayTaskError) and isinstance(exc.cause, DataError):
            return exc.cause
        if exc.__cause__ is None:
            break
        exc = exc.__cause__
    # The cause arrives as text, a remote stack trace in it: the message is after the last XGBoostError.
    reason = first_line(exc).rsplit("XGBoostError: ", 1)[-1].split("  The above exception")[0]
    return TrainingFailed(f"the final fit on {actors} actors failed: {reason}")


class _Library:
    """Context manager that patches xgboost_ray in the driver process for one fit.

    It replaces the tracker, and records placement groups and actors, which a failed fit leaves behind. After the block
    `lost` says whether an actor or the tracker died in it.
    """

    _NAMES = ("_start_rabit_tracker", "_stop_rabit_tracker", "placement_group", "_create_actor")

    def __init__(self) -> None:
        self.lost = False
        self._reserved: list[PlacementGroup] = []
        self._actors: list[ActorHandle] = []
        self._tracker: TrackerProcess | None = None
        self._before = {name: getattr(xgboost_ray.main, name) for name in self._NAMES}

    def __enter__(self) -> None:
        # Started first, so that it imports XGBoost while the actors do.
        self._tracker = TrackerProcess()
        ours = (
            self._start_tracker,
            TrackerProcess.stop,
            self._kept(self._reserved, "placement_group"),
            self._kept(self._actors, "_create_actor"),
        )
        for name, function in zip(self._NAMES, ours, strict=True):
            setattr(xgboost_ray.main, name, function)
        # Pickled by name, the class of the library's stop event has its process import XGBoost and xgboost_ray.
        cloudpickle.register_pickle_by_value(xgboost_ray.util)

    def __exit__(self, kind: type[BaseException] | None, exc: object, trace: object) -> None:
        cloudpickle.unregister_pickle_by_value(xgboost_ray.util)
        for name, function in self._before.items():
            setattr(xgboost_ray.main, name, function)
        assert self._tracker is not None
        self._tracker.stop(0)
        self.lost = kind is not None and (self._tracker.aborted or any(_died(actor) for actor in self._actors))
        # The library removes its placement group after a success only; a forgotten one keeps CPUs from everybody.
        for group in self._reserved:
            remove_placement_group(group)
        self._actors.clear()

    def _start_tracker(self, workers: int) -> tuple[TrackerProcess, dict[str, Any]]:
        assert self._tracker is not None
        return self._tracker, self._tracker.begin(workers, ray.util.get_node_ip_address())

    def _kept(self, created: list[Any], name: str) -> Callable[..., Any]:
        """Return the library's function `name`, with every object that it creates appended to `created`."""

        def create(*args: Any, **kwargs: Any) -> Any:
            created.append(self._before[name](*args, **kwargs))
            return created[-1]

        return create


def _died(actor: ActorHandle) -> bool:
    try:
        ray.get(actor.pid.remote(), timeout=_ANSWER_TIMEOUT_S)
    except RayActorError:
        return True
    except GetTimeoutError:
        return False
    return False


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
