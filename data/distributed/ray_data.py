"""Ray Data: the same function on many pieces of work, in parallel, results as they come.

The only module that imports Ray Data. What is done to a piece is plain Python elsewhere.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast

import pyarrow as pa
import ray.data
from ray.exceptions import RayError

from data.errors import DataError, RayscoreError

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Task(Generic[Item, Result]):
    """Runs in a worker. An error of ours travels back as a result, so that its words reach the user unwrapped."""

    def __init__(self, function: Callable[[Item], Result]) -> None:
        self._function = function

    def __call__(self, batch: pa.Table) -> pa.Table:
        results = [self._run(cell.as_py()) for cell in batch.column("item")]
        return pa.table({"result": pa.array(results, pa.large_binary())})

    def _run(self, item: bytes) -> bytes:
        try:
            result: Any = self._function(pickle.loads(item))
        except RayscoreError as exc:
            result = exc
        return pickle.dumps(result, protocol=5)


def stream(items: Sequence[Item], function: Callable[[Item], Result]) -> Iterator[Result]:
    """Yield `function(item)` for every item, in the order of completion; one task an item.

    Needs a connection to Ray (`data.distributed.ray_cluster`). Items and results are pickled; `function` may not
    hold resources.

    Raises:
        RayscoreError: the one that `function` raised.
        DataError: a worker was lost for good.
    """
    _quiet()
    rows = [{"item": pickle.dumps(item, protocol=5)} for item in items]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    done = dataset.map_batches(_Task(function), batch_size=1, batch_format="pyarrow", zero_copy_batch=True)
    try:
        for batch in done.iter_batches(batch_size=None, batch_format="pyarrow"):
            for cell in cast("pa.Table", batch).column("result"):
                yield _unpack(cell.as_py())
    except RayError as exc:
        raise DataError(f"a Ray worker failed and its work could not be repeated: {exc}") from exc


def _unpack(cell: bytes) -> Any:
    result = pickle.loads(cell)
    if isinstance(result, RayscoreError):
        raise result
    return result


def _quiet() -> None:
    """Leave the terminal to our own progress lines."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
