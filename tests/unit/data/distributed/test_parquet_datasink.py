"""The Parquet datasink, called as Ray Data calls it: what is written of a task's blocks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.data.block import Block
from ray.data.datasource import WriteResult

from data.distributed.parquet_datasink import ParquetDatasink
from data.sources.row_origin import Origin, with_origin


@pytest.mark.parametrize(
    "block",
    [
        with_origin(pa.table({"x": [1, 2]}), Origin("a.parquet", 0)),
        with_origin(pa.table({"x": [1, 2]}), Origin("a.parquet", 0)).to_pandas(),
        pd.DataFrame({"x": [1, 2]}),
    ],
    ids=["table", "frame", "frame without origin"],
)
def test_blocks_of_tables_and_of_data_frames_are_written_alike(tmp_path: Path, block: Block):
    """A step that returns data frames makes blocks of them; of either the rows are written, without their origin."""
    sink = ParquetDatasink(tmp_path / "out")
    sink.on_write_start()
    names = sink.write([block, block], SimpleNamespace(task_idx=7))
    assert not (tmp_path / "out").exists()
    sink.on_write_complete(WriteResult(num_rows=4, size_bytes=0, write_returns=[names]))
    assert [file.name for file in sorted((tmp_path / "out").iterdir())] == names
    assert pq.read_table(tmp_path / "out").to_pydict() == {"x": [1, 2, 1, 2]}
