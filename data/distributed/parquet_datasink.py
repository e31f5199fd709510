"""The Parquet datasink: rows of a pipeline as a folder of Parquet files that appears as a whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Generic

import pyarrow as pa
from ray.data.block import Block, BlockAccessor
from ray.data.datasource import Datasink, WriteResult

from data.distributed.pieces import Pieces, Result, Runner
from data.sources.filesystems import absolute
from data.sources.partial_output import PartialOutput, check_output, open_parts, write_part
from data.sources.row_origin import origin_of, without_origin


class ParquetDatasink(Datasink[list[str]]):
    """Writes the blocks of a dataset as files in `out`, a folder on this machine or behind a URL.

    For `Dataset.write_datasink`. The files lie in a hidden folder beside `out` until all are written; then they replace
    what `out` held. The columns of the rows' origin are not written.

    Args:
        out: folder; an earlier one that holds other files than Parquet is refused.

    Raises:
        DataError: the output cannot be written.
    """

    def __init__(self, out: str | Path) -> None:
        self._out = absolute(Path(out))
        check_output(self._out)
        self._folder = PartialOutput(self._out, "").folder

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        """Remove what a killed run left."""
        PartialOutput(self._out, "").clear()

    def write(self, blocks: Iterable[Block], ctx: Any) -> list[str]:
        """Write the blocks of one task and return the names of the files."""
        names = []
        # A step that returns data frames leaves them as blocks.
        for number, table in enumerate(BlockAccessor.for_block(block).to_arrow() for block in blocks):
            names.append(f"part-{ctx.task_idx:05d}-{number:03d}.parquet")
            write_part(self._folder, names[-1], without_origin(table), "")
        return names

    def on_write_complete(self, write_result: WriteResult[list[str]]) -> None:
        """Make the files the output."""
        PartialOutput(self._out, "").publish(sorted(chain.from_iterable(write_result.write_returns)))

    def on_write_failed(self, error: Exception) -> None:
        """Remove what was written."""
        PartialOutput(self._out, "").clear()


class _BlockWriter(Generic[Result]):
    """Writes one block as a file, named so that the files' order is that of the pieces' files and of their rows."""

    def __init__(self, folder: Path, files: Sequence[str], summarize: Callable[[pa.Table], Result]) -> None:
        self._folder = folder
        self._numbers = {file: number for number, file in enumerate(files)}
        self._summarize = summarize

    def __call__(self, block: pa.Table) -> tuple[str, Result]:
        origin = origin_of(block)
        name = f"part-{self._numbers[origin.file]:05d}-{origin.row:012d}.parquet"
        write_part(self._folder, name, without_origin(block), "")
        return name, self._summarize(block)


def write_folder(
    run: Runner, pieces: Pieces[Any], files: Sequence[str], out: Path, summarize: Callable[[pa.Table], Result]
) -> Iterator[Result]:
    """Write what is read piece by piece as a folder of Parquet files, which appears as a whole after the last block.

    Not by `Dataset.write_datasink`: it says nothing until it is done, and keeps every block of a task in memory until
    the task ends, which for a piece of any length has no bound.

    Args:
        run: of `data.distributed.ray_data.runner`.
        pieces: what is read; blocks have the columns of the rows' origin.
        files: the files that origins name, in the order of the output.
        out: absolute path or URL of the folder.
        summarize: its results for the blocks are yielded as these are written, in any order.

    Raises:
        RayscoreError: reading raised it.
        DataError: the output cannot be written, or `out` holds something other than Parquet files.
    """
    with open_parts(out, "", fresh=True) as parts:
        names: list[str] = []
        try:
            for name, result in run(pieces, _BlockWriter(parts.folder, files, summarize)):
                names.append(name)
                yield result
            parts.publish(sorted(names))
        except BaseException:
            parts.clear()
            raise
