"""A folder of Parquet files that steps over blocks write, for the commands: it appears as a whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic

import pyarrow as pa

from data.distributed.pieces import Pieces, Result, Runner
from data.sources.partial_output import open_parts, write_part
from data.sources.row_origin import origin_of, without_origin


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
        run: of `data.distributed.runner.runner`.
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
