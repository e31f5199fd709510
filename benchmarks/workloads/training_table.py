"""Generated training table of any size, in time order, with 12 features and a noisy signal; and its use case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FEATURES = 12
_FILE_ROWS = 1_000_000
_WORDS = np.array(["north", "east", "south", "west", "centre"])
_START_US = 1_700_000_000_000_000


USE_CASE = """name = "large"
label = "y"
event_time = "at"
entity = { column = "who" }
split = { validation = 0.05, holdout = 0.05 }
[features]
""" + "".join(
    f'{name} = {{ type = "{kind}" }}\n'
    for kind, names in {
        "number": ["x0", "x1", "x2", "x3", "x4", "x5"],
        "integer": ["n0", "n1", "n2"],
        "boolean": ["b0"],
        "category": ["c0", "c1"],
    }.items()
    for name in names
)
"""The table's use case, TOML: split by time, most rows to train on, every vocabulary to be fitted."""


def write(folder: Path, rows: int) -> Path:
    """Write the table as Parquet files of a million rows each; deterministic in the number of rows."""
    folder.mkdir(parents=True)
    for start in range(0, rows, _FILE_ROWS):
        table = _piece(start, min(_FILE_ROWS, rows - start))
        pq.write_table(table, folder / f"{start // _FILE_ROWS:04d}.parquet", row_group_size=250_000)
    return folder


def _piece(start: int, rows: int) -> pa.Table:
    rng = np.random.default_rng(start)
    x = rng.normal(size=(rows, 6)).astype(np.float32)
    n = rng.poisson((1.0, 8.0, 60.0), (rows, 3))
    b, c0, c1 = rng.random(rows) < 0.2, rng.integers(0, 5, rows), rng.integers(0, 5, rows)
    logit = -4 + 1.2 * x[:, 0] + np.abs(x[:, 1]) * b + 0.6 * (n[:, 0] > 2) * (c0 == 1) - 0.5 * x[:, 2] * x[:, 3]
    columns = {f"x{i}": pa.array(x[:, i], mask=rng.random(rows) < 0.02) for i in range(6)}
    columns |= {f"n{i}": pa.array(n[:, i]) for i in range(3)}
    columns |= {"b0": pa.array(b), "c0": pa.array(_WORDS[c0]), "c1": pa.array(_WORDS[c1])}
    columns["who"] = pa.array(rng.integers(0, 1_000_000, rows)).cast(pa.string())
    columns["at"] = pa.array((np.arange(start, start + rows) * 100_000) + _START_US, pa.timestamp("us"))
    columns["y"] = pa.array((rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64))
    return pa.table(columns)
