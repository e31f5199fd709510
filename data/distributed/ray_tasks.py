"""Pieces of work as plain Ray tasks: no pipeline between them, so the first result is there when it is done.

`data.distributed.ray_data` streams through Ray Data; this is for pieces that write their own output, and a few of them.
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
_MOST_UNDER_WAY = 1000


@dataclass(frozen=True)
class Placement:
    """Where tasks run and how many at once; a task takes one CPU."""

    concurrency: int | None = None
    """Tasks at once; None is as many as the cluster has CPUs free."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Ray node labels that a node must have, as `ray start --labels` gave them."""


def run_tasks(items: Sequence[Item], function: Callable[[Item], Result], placement: Placement) -> Iterator[Result]:
    """Yield `function(item)` for every item, in the order of completion; one task an item.

    Needs a connection to Ray (`data.distributed.ray_cluster`). Items, results and function are pickled, the function
    once. Tasks of a worker that was lost are repeated by Ray. A caller that stops early cancels what is under way.

    Raises:
        RayscoreError: the one that `function` raised.
        DataError: a worker was lost for good.
    """
    shared = ray.put(function)
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
    """True when a node that lives has every label of the placement; else its tasks wait, maybe for an autoscaler."""
    there = [node["Labels"].items() for node in ray.nodes() if node["Alive"]]
    return any(placement.labels.items() <= labels for labels in there)


@ray.remote
def _run(function: Callable[[Any], Any], item: Any) -> Any:
    """An error of ours travels back as a result, so that its words reach the user unwrapped."""
    try:
        return function(item)
    except RayscoreError as exc:
        return exc


def _result(result: Any) -> Any:
    if isinstance(result, RayscoreError):
        raise result
    return result
