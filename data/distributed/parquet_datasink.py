"""The Parquet datasink: rows of a pipeline as a folder of Parquet files that appears as a whole, or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
from ray.data.block import Block, BlockAccessor
from ray.data.datasource import Datasink, WriteResult

from data.sources.filesystems import absolute
from data.sources.partial_output import PartialOutput, check_output, write_part
from data.sources.row_origin import without_origin


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
