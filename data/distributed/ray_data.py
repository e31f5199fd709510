"""Ray Data: tables as datasets of typed rows, and steps over their blocks as named operators.

Ray Data is imported here and in `data.distributed.parquet_datasink` alone. The steps are plain functions of an Arrow
table and live elsewhere; a program of one's own may apply them by `Dataset.map_batches` to what `read` returns.
"""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import ray
import ray.data
from ray.data import Datasource, ReadTask
from ray.data.block import Block, BlockMetadata
from ray.exceptions import RayError

from data.distributed.pieces import ANYWHERE, Piece, Pieces, Placement, Result, parquet_pieces
from data.distributed.ray_cluster import set_auth_mode
from data.errors import DataError, RayscoreError
from data.schema.use_case import UseCase, load_use_case
from data.sources.filesystems import absolute
from data.sources.parquet import open_source

_RESULT = "result"
_REPETITIONS = 3
_MOST_UNDER_WAY = 1000  # submitted to Ray at once when no concurrency is given, however many pieces there are


class PieceDatasource(Datasource):
    """The datasource of some pieces: a read task for each."""

    def __init__(self, pieces: Pieces[Any]) -> None:
        super().__init__()
        self._pieces = pieces

    def get_name(self) -> str:
        """Name of the operator."""
        return self._pieces.name

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known before it is read."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: object = None
    ) -> list[ReadTask]:
        """Return a task for every piece, whatever parallelism is asked for."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        read = _carrying_errors(self._pieces.read)
        return [ReadTask(partial(read, piece), unknown, None, per_task_row_limit) for piece in self._pieces.pieces]


def read(use_case: UseCase | str | Path, path: str | Path, columns: Sequence[str] | None = None) -> ray.data.Dataset:
    """Return the rows of a Parquet file or folder, local or behind a URL, as a dataset.

    Each row has the file that it came from and its number in it, as the columns `__file__` and `__row__`, before its
    own. A column has one type in every file, the widest that loses no value.

    Args:
        use_case: a use case, or the name or file of one.
        path: Parquet file, folder of Parquet files, or the URL of either.
        columns: columns to read; by default those that the use case declares.

    Raises:
        ConfigError: no such use case.
        DataError: the table cannot be read, or lacks a column. What a file's pages hold is found when rows are
            consumed; there Ray wraps the error.
    """
    declared = use_case if isinstance(use_case, UseCase) else load_use_case(use_case)
    source = open_source(absolute(Path(path)))
    set_auth_mode()
    return dataset(parquet_pieces(source, columns or declared.columns))


def dataset(pieces: Pieces[Any], placement: Placement = ANYWHERE) -> ray.data.Dataset:
    """Return pieces as a dataset; needs a connection to Ray (`data.distributed.ray_cluster`)."""
    _quiet()
    return ray.data.read_datasource(
        PieceDatasource(pieces),
        # As many as there are tasks: asked for more, Ray Data would cut every block apart again.
        override_num_blocks=max(len(pieces.pieces), 1),
        concurrency=placement.concurrency,
        ray_remote_args=_task_options(placement),
    )


def each_block(
    pieces: Pieces[Any],
    step: Callable[[pa.Table], Result],
    in_order: bool = False,
    small_results: bool = False,
    placement: Placement = ANYWHERE,
) -> Iterator[Result]:
    """Yield `step(block)` for the blocks of all pieces, each of consecutive rows of one piece.

    One operator named after the step, fused by Ray Data with the read, so that the rows stay in the process that read
    them. A block is a whole piece, or a part of it of 128 MiB.

    Args:
        pieces: what is read.
        step: pickled, so it may hold no open files; so are its results.
        in_order: whether results come in the order of the pieces, or as they are ready.
        small_results: whether there is room for the results of all pieces at once; tasks then wait in Ray for a CPU,
            and no CPU for a task.
        placement: where tasks run.

    Raises:
        RayscoreError: reading or the step raised it.
        DataError: a worker died and its task could not be repeated.
    """
    if small_results and placement.concurrency is None:
        placement = replace(placement, concurrency=min(max(len(pieces.pieces), 1), _MOST_UNDER_WAY))
    applied = dataset(pieces, placement).map_batches(
        _named(step),
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        concurrency=placement.concurrency,
        **_task_options(placement),
    )
    applied.context.execution_options.preserve_order = in_order
    # Ray Data's budgets bound what waits in the object store. They also let a single task run in the first second, and
    # have each CPU wait 0.1 s and more after every task.
    applied.context.op_resource_reservation_enabled = not small_results
    try:
        for batch in applied.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for cell in cast("pa.Table", batch).column(_RESULT):
                yield _result(cell.as_py())
    except RayError as exc:
        raise _cause(exc) from exc


def has_node(placement: Placement) -> bool:
    """Return whether a live node has every label of the placement; else tasks wait, perhaps for an autoscaler."""
    live = [node["Labels"].items() for node in ray.nodes() if node["Alive"]]
    return any(placement.labels.items() <= labels for labels in live)


def _task_options(placement: Placement) -> dict[str, Any]:
    # The same for reading and the step, else Ray Data does not fuse them. Its own number of repetitions is without
    # end: a worker that a block kills by its size would be started again for ever.
    options: dict[str, Any] = {"num_cpus": 1, "max_retries": _REPETITIONS}
    return {**options, "label_selector": dict(placement.labels)} if placement.labels else options


class _Carried(Exception):
    """Carries an error of ours, as its only argument, out of a read task.

    To the text of an exception Ray Data adds advice of its own; an argument that is no text it leaves as it is.
    """


def _carrying_errors(function: Callable[[Piece], Iterable[pa.Table]]) -> Callable[[Piece], Iterator[Block]]:
    def carrying(piece: Piece) -> Iterator[Block]:
        try:
            yield from function(piece)
        except RayscoreError as exc:
            raise _Carried(exc) from exc

    return carrying


def _named(step: Callable[[pa.Table], Any]) -> Callable[[pa.Table], pa.Table]:
    """Return the step as Ray Data calls it: its result pickled in a cell. Its name is that of the operator.

    An error of ours is a result: raised, Ray Data would put it into an error of its own, and the words alone arrive.
    """

    def operator(block: pa.Table) -> pa.Table:
        try:
            result = pickle.dumps(step(block), protocol=5)
        except RayscoreError as exc:
            result = pickle.dumps(exc, protocol=5)
        # Not `binary`, whose 32-bit offsets end at 2 GiB.
        return pa.table({_RESULT: pa.array([result], pa.large_binary())})

    function = step.func if isinstance(step, partial) else step
    operator.__name__ = getattr(function, "__name__", type(function).__name__)
    return operator


def _result(cell: bytes) -> Any:
    result = pickle.loads(cell)
    if isinstance(result, RayscoreError):
        raise result
    return result


def _cause(exc: RayError) -> RayscoreError:
    carried = getattr(exc, "cause", None)
    if isinstance(carried, _Carried):
        return carried.args[0]
    return DataError(f"a Ray worker failed and its work could not be repeated: {exc}")


def _quiet() -> None:
    """Switch off Ray Data's own output: progress, which would mix with our lines, and tracebacks of our errors."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Only so can repetitions be bounded; the named options that replace it have none for them.
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.CRITICAL)
