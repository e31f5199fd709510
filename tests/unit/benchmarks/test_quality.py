"""The benchmark of quality: which rows a model may learn from, and on which it is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.quality import divided
from data.errors import ConfigError
from data.sources.atomic_output import write_table


def written(folder: Path) -> Path:
    """A table of 400 rows in no order of time."""
    rng = np.random.default_rng(0)
    at = pa.array(rng.permutation(400) * 1_000_000, pa.timestamp("us"))
    path = folder / "table.parquet"
    write_table(pa.table({"n": np.arange(400), "at": at, "y": rng.integers(0, 2, 400)}), path)
    return path


@pytest.mark.parametrize("time", [None, "at"])
def test_rows_are_learned_from_or_judged(tmp_path, time):
    """A quarter of the rows is kept apart, each row is on one side; with a time, the newest ones."""
    table = divided(written(tmp_path), "y", time)
    assert (table.learned.num_rows, table.test.num_rows) == (300, 100)
    assert sorted(table.learned["n"].to_pylist() + table.test["n"].to_pylist()) == list(range(400))
    if time is not None:
        assert max(table.learned["at"].to_pylist()) < min(table.test["at"].to_pylist())


def test_column_that_is_not_there_is_told(tmp_path):
    """The label's name is checked before anything is learned."""
    with pytest.raises(ConfigError, match="no column 'fraud'"):
        divided(written(tmp_path), "fraud", None)
