"""Plain Ray tasks: one function applied to many items, each result available as soon as its task is done.

For few, long items that write their own output, such as the parts of batch scoring. `data.distributed.ray_data` passes
results through a Ray Data pipeline instead, which buffers them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from data.errors import DataError, RayscoreError

Item = TypeVar("Item")
Result = TypeVar("Result")
_MOST_UNDER_WAY = 1000  # submitted to Ray at once when no concurrency is given, however long the list of items


@dataclass(frozen=True)
class Placement:
    """How many tasks run at once and on which nodes; each task takes one CPU."""

    concurrency: int | None = None
    """Most tasks at once; None for as many as the cluster has free CPUs."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that a node must have to run a task, as set by `ray start --labels`."""


def run_tasks(items: Sequence[Item], function: Callable[[Item], Result], placement: Placement) -> Iterator[Result]:
    """Yield `function(item)` for every item, in the order of completion; one task an item.

    Needs a connection to Ray (`data.distributed.ray_cluster`). Items, results and function are pickled, the function
    once. Ray repeats the tasks of a worker that died. Closing the generator early cancels the tasks under way.

    Raises:
        RayscoreError: `function` raised it.
        DataError: a worker died and its task could not be repeated.
    """
    shared = ray.put(function)  # pickled here once; as a plain argument it would be pickled for every task
    task = _run.options(num_cpus=1, label_selector=dict(placement.labels) or None)
    waiting = iter(items)
    most = placement.concurrency or _MOST_UNDER_WAY
    under_way = [task.remote(shared, item) for item in islice(waiting, most)]
    try:
        while under_way:
            done, under_way = ray.wait(under_way, num_returns=1)
            under_way += [task.remote(shared, item) for item in islice(waiting, len(done))]
            yield from map(_result, ray.get(done))
    except RayError as exc:
        raise DataError(f"a Ray worker failed and its work could not be repeated: {exc}") from exc
    finally:
        for reference in under_way:
            ray.cancel(reference)


def has_node(placement: Placement) -> bool:
    """Return whether a live node has every label of the placement; else tasks wait, perhaps for an autoscaler."""
    live = [node["Labels"].items() for node in ray.nodes() if node["Alive"]]
    return any(placement.labels.items() <= labels for labels in live)


@ray.remote
def _run(function: Callable[[Any], Any], item: Any) -> Any:
    """Call `function`; an error of ours is returned, since Ray would wrap a raised one in its own with a traceback."""
    try:
        return function(item)
    except RayscoreError as exc:
        return exc


def _result(result: Any) -> Any:
    if isinstance(result, RayscoreError):
        raise result
    return result
