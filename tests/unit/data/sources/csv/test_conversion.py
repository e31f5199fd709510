"""CSV to Parquet: what goes in comes out, and every broken line is refused with its place."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from data.errors import DataError
from data.sources.csv import (
    Conversion,
    Converted,
    DialectOptions,
    Inspected,
    blocks,
    convert_file,
    inspect,
    parse_options,
    parse_types,
    record_batches,
    reported,
    tables,
)
from data.sources.csv.column_types import Column
from data.sources.parquet import read_table
from data.sources.row_origin import without_origin


def _run(
    folder: Path, text: str | bytes, types: tuple[str, ...] = (), options: DialectOptions | None = None
) -> tuple[pa.Table, Inspected, Converted]:
    source = folder / "in.csv"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    options = options or DialectOptions()
    inspected = inspect(source, parse_types(types), options)
    done = convert_file(Conversion(source, inspected.columns, options), folder / "out.parquet", lambda _: None)
    return read_table(folder / "out.parquet"), inspected, done


def _convert(folder: Path, text: str | bytes, types: tuple[str, ...] = (), **options: str) -> pa.Table:
    return _run(folder, text, types, DialectOptions(**options))[0]


def test_types_are_inferred(tmp_path):
    """Integers, numbers, words, truth values and times are recognised; empty cells are null, but in text."""
    table = _convert(
        tmp_path,
        "a,b,c,d,e,f,g,h\n1,1.5,x,true,2025-01-01 10:00:00,,2025-01-01,10:30\n"
        ',2,"y, z",false,2025-01-02 10:00:00,,2025-01-02,11:45:01\n',
    )
    kinds = [pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.timestamp("us"), pa.string()]
    assert table.schema.types == [*kinds, pa.date32(), pa.time32("ms")]
    assert table["a"].to_pylist() == [1, None]
    assert table["c"].to_pylist() == ["x", "y, z"]
    assert table["f"].to_pylist() == ["", ""]


def test_declared_type_wins(tmp_path):
    """A declared type takes spellings that inference leaves as text, and keeps as text what would be a number."""
    text = "zip,n,amt\n00123, +7 ,1E3\n"
    table = _convert(tmp_path, text, ("zip=string", "n=integer", "amt=number"))
    assert table.to_pylist() == [{"zip": "00123", "n": 7, "amt": 1000.0}]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("94107 01220", "text, since '01220' (line 3) would become 1220; --types a=integer reads it as a number"),
        ("1E5 2E7", "text, since '1E5' (line 2) would become 100000.0; --types a=number reads it as a number"),
        ("12345678901234567890 1", "text, since '12345678901234567890' (line 2) would become 1.2345678901234567e+19"),
        ("0x1F 0x2A", "text, since '0x1F' (line 2) would become 31"),
        ("1 2 unknown", "text, since 'unknown' (line 4) is no number, but 66 % of it is"),
        ('"2,5" "3,75"', "text, but 100 % of it looks like numbers with a decimal comma: --decimal ,"),
        ('"1,234.5" "12,000.0"', "text, but 100 % of it looks like numbers with thousands separators; remove these"),
        ("$12.50 $3.75", "text, but 100 % of it looks like numbers with a unit; remove it"),
        ("abc 1 def", None),
    ],
)
def test_text_that_looks_like_numbers_stays_and_is_pointed_out(tmp_path, values, reason):
    """Text comes back as it was written, with the reason why it is text and the option that would change that."""
    cells = values.split()
    table, inspected, _ = _run(tmp_path, "a,b\n" + "".join(f"{cell},x\n" for cell in cells))
    assert table["a"].to_pylist() == [cell.strip('"') for cell in cells]
    assert inspected.observations.get("a") == reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3\n4,5\n", r"in\.csv, line 3: Expected 2 columns, got 1: 3; mend or remove the line"),
        ("a,b\n1,2,9\n", r"in\.csv, line 2: Expected 2 columns, got 3"),
        ('a,b\n1,"x\ny"\n4,5\n6\n', r"in\.csv, line 5: Expected 2 columns"),
        ("# by me\n\na,b\n1,2\n\n3\n", r"in\.csv, line 6: Expected 2 columns, got 1: 3"),
        ("a,b\n1,2\n# end\n", r"in\.csv, line 3: .*got 1: # end; .*--comment '#'"),
        ('a,b\n1,"x\n3,4\n5,6\n', r"in\.csv, line 2: a quote opens that is not closed"),
        ('a,b\n0,z\n1,"x\n2,"y"\n3,z\n', r"in\.csv, line 3: a quote opens that is not closed, or that more text"),
        ("", r"in\.csv: the file is empty"),
        ("\n\n", r"in\.csv: no line is a header"),
        ("a,b\n", r"in\.csv: the file has a header but no rows"),
        ("a,b", r"in\.csv: the file has a header but no rows"),
        ("a,a\n1,2\n", r"in\.csv: the header names column 'a' twice"),
        (b"a,b\n1,2\n1,gr\xfcn\n", r"in\.csv, line 3: byte 0xFC is not UTF-8; .*give --encoding cp1252"),
    ],
)
def test_broken_file_is_refused_with_its_place(tmp_path, text, words):
    """A line that does not fit is refused with file and line, and nothing is written."""
    with pytest.raises(DataError, match=words):
        _convert(tmp_path, text)
    assert [file.name for file in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize(
    ("types", "value", "words"),
    [
        ("a=integer", "9223372036854775808", r"line 3: column 'a' does not fit int64: '9223372036854775808'"),
        (
            "a=number",
            "12345678901234567890",
            r"line 3: column 'a' does not fit double: .* become 1\.2345678901234567e\+19",
        ),
        ("a=number", "1e400", r"line 3: column 'a' does not fit double: '1e400' would become inf"),
        ("a=boolean", "yes", r"line 3: column 'a' does not fit bool: 'yes'; mend the value, .*--types a=string"),
        ("a=timestamp", "soon\x1b", r"line 3: column 'a' does not fit timestamp\[us\]: 'soon\\x1b'"),
    ],
)
def test_declared_type_refuses_what_it_would_lose(tmp_path, types, value, words):
    """A declared type refuses the value that it cannot hold, with its line."""
    with pytest.raises(DataError, match=words):
        _convert(tmp_path, f"a,b\n,\n{value},x\n", (types,))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("A7", r"does not fit int64: 'A7'; mend the value, or read the column as text: --types code=string$"),
        ("07", r"does not fit int64: '07' would become 7; .*--types code=string, or as numbers: --types code=integer$"),
        ("7.5", r"does not fit int64: '7\.5'; .*or as numbers: --types code=number$"),
        ('"7,5"', r"does not fit int64: '7,5'; .*or with a decimal comma: --decimal ,$"),
    ],
)
def test_late_misfit_names_line_column_and_remedy(tmp_path, value, words):
    """A value far behind the inferred part that does not fit says where it is and which option would take it."""
    with pytest.raises(DataError, match=rf"line 10002: column 'code' {words}"):
        _convert(tmp_path, "code,b\n" + f"7,{'x' * 1000}\n" * 10_000 + f"{value},x\n")


def test_late_byte_of_another_encoding_is_refused_with_its_line(tmp_path):
    """A byte that is not UTF-8 far behind what the encoding was recognised by is refused with its line."""
    with pytest.raises(DataError, match=r"in\.csv, line 10002: byte 0xE9 is not UTF-8"):
        _convert(tmp_path, b"a,b\n" + b"1,%s\n" % (b"x" * 1000) * 10_000 + b"2,\xe9\n1,x\n")


def test_what_is_missing_is_counted_by_its_word(tmp_path):
    """Words for missing values are null in columns of numbers and stay in text; both are counted, as are infinities."""
    table, _, done = _run(tmp_path, "a,b,c\n1,NA,NA\n,2.5,\n3,-inf,x\n4,NaN,null\n")
    assert table.to_pydict() == {
        "a": [1, None, 3, 4],
        "b": [None, 2.5, float("-inf"), None],
        "c": ["NA", "", "x", "null"],
    }
    assert done.missing == {"a": {"": 1}, "b": {"NA": 1, "NaN": 1}, "c": {"": 1}}
    assert done.infinite == {"b": 1}


def test_comment_lines_among_rows_are_left_out_and_counted(tmp_path):
    """With a comment sign lines that begin with it are no rows, however many fields they have."""
    text = "% x\na,b\n1,2\n% end\n%3,4\n5,6\n"
    table, _, done = _run(tmp_path, text, options=parse_options(None, None, None, "%"))
    assert table.to_pydict() == {"a": [1, 5], "b": [2, 6]}
    assert done.comments == 2
    with pytest.raises(DataError, match="line 7: Expected 2 columns"):
        _convert(tmp_path, text + "7\n", comment="%")
    with pytest.raises(DataError, match=r"line 6: column 'b' does not fit int64: '6\.5'"):
        list(record_batches(_job(tmp_path, text.replace("5,6", "5,6.5"), comment="%"), Converted(Path())))


@pytest.mark.parametrize("lines", ["# a\n", "# a,b\n"])
@pytest.mark.parametrize("text", ["a,b\n1,2\n{}", "a,b\n{}1,2\n", "a,b\n{}1,2\n{}"])
def test_blocks_of_comments_alone_are_passed_over(tmp_path, monkeypatch, lines, text):
    """A block that is comments from its first line to its last ends neither the table nor the conversion."""
    monkeypatch.setattr(blocks, "_BLOCK_BYTES", 256)
    comments = lines * 200
    job = _job(tmp_path, text.format(comments, comments), comment="#")
    assert inspect(job.source, {}, job.options).columns == job.columns
    assert [row for table in tables(job) for row in without_origin(table).to_pylist()] == [{"a": 1, "b": 2}]
    done = convert_file(job, tmp_path / "out.parquet", lambda _: None)
    assert (done.rows, done.comments) == (1, 200 * text.count("{}"))


def _job(folder: Path, text: str, **options: str) -> Conversion:
    source = folder / "job.csv"
    source.write_text(text)
    columns = (Column("a", pa.int64()), Column("b", pa.int64()))
    return Conversion(source, columns, DialectOptions(**options))


def test_empty_line_in_a_file_of_one_column_is_an_empty_value(tmp_path):
    """No row is lost where a value is an empty line; between rows of several columns an empty line is none."""
    assert _convert(tmp_path, "a\n1\n\n3\n")["a"].to_pylist() == [1, None, 3]
    assert _convert(tmp_path, "a,b\n1,2\n\n3,4\n").num_rows == 2


def test_failure_leaves_the_earlier_output(tmp_path):
    """A conversion that fails leaves the output of an earlier one as it was."""
    _convert(tmp_path, "a\n1\n")
    with pytest.raises(DataError):
        _convert(tmp_path, "a,b\n1\n")
    assert read_table(tmp_path / "out.parquet")["a"].to_pylist() == [1]


def test_output_must_be_another_file(tmp_path):
    """A file is not replaced by its own conversion."""
    job = _job(tmp_path, "a,b\n1,2\n")
    with pytest.raises(DataError, match="is the CSV file itself"):
        convert_file(job, job.source, lambda _: None)
    assert job.source.read_text() == "a,b\n1,2\n"


def test_rows_come_with_their_origin_and_the_last_with_what_was_met(tmp_path):
    """Read for a folder, each row says its file and number, and a file's counts come with its end."""
    job = _job(tmp_path, "a,b\n1,\n2,NA\n")
    (table,) = tables(job)
    assert without_origin(table).to_pydict() == {"a": [1, 2], "b": [None, None]}
    assert table["__row__"].to_pylist() == [0, 1]
    block = reported(table)
    assert (block.rows, block.files[0].missing["b"]) == (2, {"": 1, "NA": 1})
    assert reported(table.slice(0, 1)).files == []


def test_other_header_is_refused(tmp_path):
    """A file of a folder whose header differs from the first one's is refused."""
    with pytest.raises(DataError, match=r"job\.csv: .*expected a, b as in the first file"):
        convert_file(_job(tmp_path, "a,c\n1,2\n"), tmp_path / "out.parquet", lambda _: None)


@pytest.mark.parametrize("pair", ["zip", "=string", "zip=text"])
def test_malformed_type_is_refused(pair):
    """A --types pair that is malformed says what was expected."""
    with pytest.raises(DataError, match="expected column=type with a type of: string, integer"):
        parse_types([pair])


def test_declared_column_must_be_there(tmp_path):
    """A type for a column that is not in the header is refused."""
    with pytest.raises(DataError, match="no column 'zap'; the header has: zip"):
        _convert(tmp_path, "zip\n1\n", ("zap=string",))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_other_scripts_in_utf_16_without_a_mark_are_read(tmp_path, encoding, line_end):
    """Where few letters have a NUL, the line ends tell UTF-16 and its byte order."""
    text = line_end.join(
        ["имя,\u0433\u043e\u0440\u043e\u0434", *["\u0410\u043d\u043d\u0430,\u041e\u043c\u0441\u043a"] * 3]
    )
    assert (
        _convert(tmp_path, text.encode(encoding))["\u0438\u043c\u044f"].to_pylist() == ["\u0410\u043d\u043d\u0430"] * 3
    )


def test_names_that_rows_use_themselves_are_refused(tmp_path):
    """A table with such a column could be written, but read by no command."""
    with pytest.raises(
        DataError, match=r"in\.csv: column '__row__' has a name that rows read here use themselves; rename"
    ):
        _convert(tmp_path, "a,__row__\n1,2\n")


def test_what_cannot_be_unpacked_is_told_with_what_to_do(tmp_path):
    """A gzip file that was cut, or padded, is to be got again."""
    packed = gzip.compress(b"a,b\n1,2\n")
    for damaged in (packed[:-9], packed + b"\0" * 9):
        with pytest.raises(DataError, match=r"in\.csv: cannot be read: .*; get the file again, or unpack it yourself"):
            _convert(tmp_path, damaged)


@pytest.mark.parametrize("cell", ['"say \\"hi\\""', '"a"b', '"a" '])
def test_text_behind_a_closing_quote_is_refused(tmp_path, cell):
    """Arrow would take the quotes away and keep the rest; nothing of a value is lost in silence."""
    with pytest.raises(
        DataError, match=r"in\.csv, line 3: a quote opens that is not closed, or that more text follows"
    ):
        _convert(tmp_path, f"a,b\n1,x\n2,{cell}\n3,z\n")
