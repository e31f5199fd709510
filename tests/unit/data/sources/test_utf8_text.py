"""Text that is not UTF-8: refused by file, row and column, whatever reads the table."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError
from data.sources.parquet import read_table


def _text(*values: bytes | None) -> pa.StringArray:
    """Bytes as a column of text, unchecked."""
    binary = pa.array(values, pa.binary())
    return pa.StringArray.from_buffers(len(values), *binary.buffers()[1:], binary.buffers()[0])


@pytest.mark.parametrize(
    ("kind", "place"), [("plain", ", row 2: column 'word' holds b'caf"), ("dictionary", ": a column holds text")]
)
def test_bytes_of_another_encoding_are_refused_where_they_stand(tmp_path: Path, kind: str, place: str):
    """Latin-1 in a column that says it is text, in the second file of a folder."""
    pq.write_table(pa.table({"x": [1, 2], "word": ["caf\u00e9", None]}), tmp_path / "a.parquet")
    words = _text(b"tea", b"", b"caf\xe9")
    column = words if kind == "plain" else pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), words)
    pq.write_table(pa.table({"x": [1, 2, 3], "word": column}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=rf"b\.parquet{place}.* not (text in )?UTF-8.*; write the file"):
        read_table(tmp_path)


def test_a_column_that_is_not_read_is_not_looked_at(tmp_path: Path):
    """Only the columns that a command reads can hurt it."""
    pq.write_table(pa.table({"x": [1], "word": _text(b"caf\xe9")}), tmp_path / "a.parquet")
    assert read_table(tmp_path, ["x"]).num_rows == 1
