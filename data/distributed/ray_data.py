"""Ray Data: one function applied to many items in parallel, with results streamed as they complete.

The only module that imports Ray Data. The functions that it runs are plain Python and live elsewhere.
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
    """The function as Ray Data calls it in a worker: pickled items in, pickled results out.

    An error of ours is returned as a result: Ray would wrap it, when raised, in its own with a worker's traceback.
    """

    def __init__(self, function: Callable[[Item], Result]) -> None:
        self._function = function

    def __call__(self, batch: pa.Table) -> pa.Table:
        results = [self._run(cell.as_py()) for cell in batch.column("item")]
        # Not `binary`, whose 32-bit offsets end at 2 GiB.
        return pa.table({"result": pa.array(results, pa.large_binary())})

    def _run(self, item: bytes) -> bytes:
        try:
            result: Any = self._function(pickle.loads(item))
        except RayscoreError as exc:
            result = exc
        return pickle.dumps(result, protocol=5)


def stream(items: Sequence[Item], function: Callable[[Item], Result]) -> Iterator[Result]:
    """Yield `function(item)` for every item, in the order of completion; one task an item.

    Needs a connection to Ray (`data.distributed.ray_cluster`). Items, results and `function` are pickled, so none may
    hold open files or connections.

    Raises:
        RayscoreError: `function` raised it.
        DataError: a worker died and its task could not be repeated.
    """
    _quiet()
    rows = [{"item": pickle.dumps(item, protocol=5)} for item in items]
    # A block per item: Ray Data would put many small items into one block, and so into one task.
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
    """Switch off Ray Data's own progress output, which would mix with our progress lines."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
