"""CSV to Parquet of any table: every text comes back, or is refused with file and line."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.sources.csv import (
    Conversion,
    DialectOptions,
    convert_file,
    inspect,
)
from data.sources.parquet import read_table

_CELLS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6),
    st.text("ab,;|\t\"\r\n# '", max_size=4),
    st.integers().map(str),
    st.floats().map(repr),
    st.from_regex(r"[+-]?0?[0-9]{1,3}([.,][0-9]{1,3})?([eE][+-]?[0-9])?", fullmatch=True),
    st.sampled_from(["true", "FALSE", "NA", "", "null", "2024-01-31", "07:30"]),
)


def _converted(folder: Path, content: bytes) -> pa.Table:
    source, options = folder / "in.csv", DialectOptions()
    source.write_bytes(content)
    columns = inspect(source, {}, options).columns
    convert_file(Conversion(source, columns, options), folder / "out.parquet", lambda _: None)
    return read_table(folder / "out.parquet")


@st.composite
def _tables(draw: st.DrawFn) -> list[list[str]]:
    """Rows of cells, each column of one kind or of any."""
    width = draw(st.integers(2, 4))
    kinds = [draw(st.sampled_from([_CELLS, st.integers().map(str), st.floats().map(repr)])) for _ in range(width)]
    return draw(st.lists(st.tuples(*kinds).map(list), min_size=1, max_size=6))


def _written(rows: list[list[str]], delimiter: str, line_end: str) -> str:
    text = io.StringIO(newline="")
    # A quote in all that is text, as a single line end may be taken for two.
    csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue()


@given(
    _tables(),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]),
    st.booleans(),
)
def test_any_table_comes_back_or_is_refused_with_file_and_line(
    tmp_path_factory, rows, delimiter, line_end, encoding, packed
):
    """Whatever the delimiter, line ends, encoding and compression, every text comes back, as a number it prints so."""
    names = [f"name{number}" for number in range(len(rows[0]))]
    content = _written([names, *rows], delimiter, line_end).encode(encoding)
    folder = tmp_path_factory.mktemp("table")
    try:
        table = _converted(folder, gzip.compress(content, mtime=0) if packed else content)
    except DataError as exc:
        assert "in.csv" in str(exc)
        return
    assert table.column_names == names
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        assert all(map(_same, table[name].to_pylist(), column)), (table[name], column)


def _same(value: object, text: str) -> bool:
    if isinstance(value, str):
        return value == text
    if value is None:
        return text.lower().strip("-") in ("", "nan", "na", "null")
    if isinstance(value, bool):
        return str(value).lower() == text.lower()
    if isinstance(value, int):
        return str(value) == text
    if isinstance(value, float):
        return value == float(text.replace(",", ".")) and text.lstrip("-")[:2] not in ("00", "01", "07")
    return str(value).startswith(text)
