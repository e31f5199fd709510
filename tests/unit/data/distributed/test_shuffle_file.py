"""Shuffle files: rows of a partition in their order, each once, and a missing file named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data.distributed.shuffle_file import Shuffle, read_partition, write_shuffle_file
from data.errors import DataError


def _write(folder: Path, first: int) -> Shuffle:
    """Write six rows, of which the even ones are of partition 2 and the others of 0."""
    rows = np.arange(first, first + 6)
    file = write_shuffle_file(folder / f"{first:03d}.arrow", pa.table({"x": rows}), np.where(rows % 2, 0, 2), 3)
    return Shuffle.of([file], 3)


def test_a_partition_has_its_rows_in_their_order(tmp_path: Path):
    """Of all files, in the order of their names, however often and in whichever order they were written."""
    files = [_write(tmp_path, first) for first in (6, 0, 6)][:2]
    shuffle = Shuffle(tuple(sorted(path for file in files for path in file.paths)), files[0].rows + files[1].rows)
    assert shuffle.rows.tolist() == [6, 0, 6]
    assert read_partition(shuffle, 2).column("x").to_pylist() == [0, 2, 4, 6, 8, 10]
    assert read_partition(shuffle, 0).column("x").to_pylist() == [1, 3, 5, 7, 9, 11]
    assert read_partition(shuffle, 1).num_rows == 0


def test_a_file_that_this_node_does_not_have_is_named(tmp_path: Path):
    """With what a cluster needs."""
    shuffle = _write(tmp_path, 0)
    shuffle.paths[0].unlink()
    with pytest.raises(DataError, match=r"000\.arrow: cannot be read: .*every node must have the folder"):
        read_partition(shuffle, 0)
