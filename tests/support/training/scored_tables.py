"""A table to be scored by the process of a test, without Ray."""

from __future__ import annotations

from pathlib import Path

from data.distributed.pieces import Pieces, each_block_here
from data.schema.events.event_paths import NOTHING_BESIDE, EventPaths
from data.sources.parquet import Chunk, ParquetSource
from ray_app.batch.table_windows import ScoredTable
from ray_app.batch.written_windows import Scratch


def scored_here(source: ParquetSource, folder: Path, events: EventPaths = NOTHING_BESIDE) -> ScoredTable:
    """Return a table whose windows, where they do not fit into memory, go into `windows` of a folder."""

    def scratch(pieces: Pieces[Chunk]) -> Scratch:
        (folder / "windows").mkdir()
        return Scratch(folder / "windows", each_block_here)

    return ScoredTable(source, events, scratch)
