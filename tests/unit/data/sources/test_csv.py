"""CSV to Parquet: types, and every broken line refused with its place."""

from pathlib import Path

import pyarrow as pa
import pytest

from data.errors import DataError
from data.sources.csv import Conversion, convert_file, csv_files, infer_types, parse_types
from data.sources.parquet import read_table


def _convert(folder: Path, text: str | bytes, types: list[str] | None = None) -> pa.Table:
    source = folder / "in.csv"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = infer_types(source, parse_types(types or []))
    convert_file(Conversion(source, found), folder / "out.parquet", lambda _: None)
    return read_table(folder / "out.parquet")


def test_types_are_inferred(tmp_path):
    """Integers, numbers, words, truth values and timestamps are recognised; empty cells are null."""
    table = _convert(tmp_path, 'a,b,c,d,e,f\n1,1.5,x,true,2025-01-01 10:00:00,\n,2,"y, z",false,2025-01-02 10:00:00,\n')
    kinds = [pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.timestamp("us"), pa.string()]
    assert table.schema.types == kinds
    assert table["a"].to_pylist() == [1, None]
    assert table["c"].to_pylist() == ["x", "y, z"]


def test_declared_type_wins(tmp_path):
    """A declared type keeps what inference would lose."""
    assert _convert(tmp_path, "zip\n00123\n", ["zip=string"])["zip"].to_pylist() == ["00123"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3\n4,5\n", r"in\.csv, line 3: Expected 2 columns, got 1: 3; mend or remove the line"),
        ("a,b\n1,2,9\n", r"in\.csv, line 2: Expected 2 columns, got 3"),
        ('a,b\n1,"x\ny"\n4,5\n6\n', r"in\.csv, line 5: Expected 2 columns"),
        ("", r"in\.csv: Empty CSV file"),
        ("a,b\n", r"in\.csv: the file has a header but no rows"),
        ("a,a\n1,2\n", r"in\.csv: the header names column 'a' twice"),
        (b"a,b\n1,\xff\xfe\n", r"in\.csv: column 'b' is not UTF-8 text"),
    ],
)
def test_broken_file_is_refused_with_its_place(tmp_path, text, words):
    """A line that does not fit is refused with file and line, and nothing is written."""
    with pytest.raises(DataError, match=words):
        _convert(tmp_path, text)
    assert [file.name for file in tmp_path.iterdir()] == ["in.csv"]


def test_late_misfit_names_line_column_and_remedy(tmp_path):
    """A value far behind the inferred part that does not fit says where it is and how to read the column."""
    text = "id,code\n" + "".join(f"{i},{i % 7}\n" for i in range(1_100_000)) + "1100000,A7\n"
    with pytest.raises(DataError, match=r"line 1100002: column 'code' does not fit int64.*'A7'.*--types code=string"):
        _convert(tmp_path, text)


def test_failure_leaves_the_earlier_output(tmp_path):
    """A conversion that fails leaves the output of an earlier one as it was."""
    _convert(tmp_path, "a\n1\n")
    with pytest.raises(DataError):
        _convert(tmp_path, "a,b\n1\n")
    assert read_table(tmp_path / "out.parquet")["a"].to_pylist() == [1]


def test_other_header_is_refused(tmp_path):
    """A file of a folder whose header differs from the first one's is refused."""
    source = tmp_path / "b.csv"
    source.write_text("a,c\n1,2\n")
    with pytest.raises(DataError, match=r"b\.csv: .*expected a, b as in the first file"):
        convert_file(Conversion(source, {"a": pa.int64(), "b": pa.int64()}), tmp_path / "b.parquet", lambda _: None)


@pytest.mark.parametrize("pair", ["zip", "=string", "zip=text"])
def test_malformed_type_is_refused(pair):
    """A --types pair that is malformed says what was expected."""
    with pytest.raises(DataError, match="expected column=type with a type of: string, integer"):
        parse_types([pair])


def test_declared_column_must_be_there(tmp_path):
    """A type for a column that is not in the header is refused."""
    with pytest.raises(DataError, match="no column 'zap'; the header has: zip"):
        _convert(tmp_path, "zip\n1\n", ["zap=string"])


def test_missing_input_is_refused(tmp_path):
    """A path that is not there, or a folder without CSV, is refused."""
    with pytest.raises(DataError, match="no such file or folder"):
        csv_files(tmp_path / "gone.csv")
    with pytest.raises(DataError, match=r"holds no \.csv file"):
        csv_files(tmp_path)
