"""Dialect of a CSV file: recognised, or refused with the option to give."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError
from data.sources.csv.dialect import Dialect, DialectOptions, line_of_row, parse_options, recognise_dialect


@pytest.fixture
def recognised(tmp_path):
    """Recognises the dialect of a file with the content given."""

    def recognise(content: str | bytes, **options: str) -> Dialect:
        file = tmp_path / "in.csv"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return recognise_dialect(file, DialectOptions(**options))

    return recognise


@pytest.mark.parametrize(
    ("text", "delimiter", "decimal", "header"),
    [
        ("id,amt,y\n1,2.5,0\n", ",", ".", ("id", "amt", "y")),
        ("id;amt;y\n1;2,5;0\n2;3,5;1\n", ";", ",", ("id", "amt", "y")),
        ("id;amt;y\n1;2.5;0\n", ";", ".", ("id", "amt", "y")),
        ("id\tamt\n1\t2,5\n", "\t", ",", ("id", "amt")),
        ("id|amt\n1|2.5\n", "|", ".", ("id", "amt")),
        ("id;amt\n1;1.234,56\n", ";", ".", ("id", "amt")),
        ("id;amt\n1;1,234\n2;2,500\n", ";", ".", ("id", "amt")),
        ("id;amt\n1;1,234\n2;0,500\n", ";", ",", ("id", "amt")),
        ("id;amt;p\n1;2,5;2.5\n", ";", ".", ("id", "amt", "p")),
        ('a,b\n"x;y;z","1|2"\n"p;q;r","3|4"\n', ",", ".", ("a", "b")),
        ('"a;b",c\n1,2\n', ",", ".", ("a;b", "c")),
        ("amount, EUR;id\n1,5;1\n2;2\n", ";", ",", ("amount, EUR", "id")),
        ("only\n1\n\n2\n", ",", ".", ("only",)),
        ('text\n"hello, you; and |"\n', ",", ".", ("text",)),
        ("a,b\r1,2\r", ",", ".", ("a", "b")),
        ('"two\nlines",b\n1,2\n', ",", ".", ("two\nlines", "b")),
    ],
)
def test_delimiter_and_decimal_sign_are_recognised(recognised, text, delimiter, decimal, header):
    """The delimiter is what divides header and rows alike; a decimal comma needs proof that no thousands could give."""
    found = recognised(text)
    assert (found.delimiter, found.decimal, found.header) == (delimiter, decimal, header)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "a;b,c\n1;2,3\n",
            r"line 1: comma and semicolon divide it alike; say which: --delimiter ',' or --delimiter ';'",
        ),
        ('"a;b"\n1\n', "line 1: the header is one name with semicolon in quotes; .*--delimiter ,"),
        ("Report\nid,amt\n1,2\n3,4\n", "line 1: the header has 1 field, but the lines below have 2, divided by comma"),
        ("# by me\na,b\n1,2,3\n4,5,6\n", "line 2: the header has 2 fields, but the lines below have 3"),
        ("a\n1;2\n3;4\n", "line 1: the header has 1 field, but the lines below have 2, divided by semicolon"),
    ],
)
def test_what_is_not_clear_is_refused_with_the_option(recognised, text, words):
    """A header that could be read in two ways, or does not go with its rows, is never read as one column."""
    with pytest.raises(DataError, match=words):
        recognised(text)


@pytest.mark.parametrize(
    ("text", "header", "skip"),
    [
        ("# exported 2024\na,b\n1,2\n", ("a", "b"), 2),
        ("# by me, today\na,b\n1,2\n", ("a", "b"), 2),
        ("#one\n#two, three; four\n\nx;y\n1;2\n", ("x", "y"), 4),
        ("#id,amount\n1,2.5\n", ("#id", "amount"), 1),
        ("# made\n#id,amount\n1,2.5\n", ("#id", "amount"), 2),
        ("#id;name\nx;y\nz;w\n", ("#id", "name"), 1),
        ("# made by hand\nx;y\nz;w\n", ("x", "y"), 2),
        ("#id\n1\n", ("#id",), 1),
        ("#only\nid\n1\n", ("id",), 2),
        ("\n\na,b\n1,2\n", ("a", "b"), 3),
        ("sep=;\na;b,c\n1;2,3\n", ("a", "b,c"), 2),
    ],
)
def test_lines_before_the_header_are_left_out_and_said(recognised, text, header, skip):
    """Comments are told from a header that begins with #, by its fields and by the rows below."""
    found = recognised(text)
    assert (found.header, found.skip) == (header, skip)
    left_out = skip - 1
    assert any(f"{left_out} line" in note for note in found.notes) == bool(left_out)


def test_line_of_a_row_counts_all_lines(recognised, tmp_path):
    """Comments, empty lines and line breaks in quotes are counted when a row's line is named."""
    found = recognised('# x\na,b\n1,"2\n2"\n\n3,4\n')
    assert [line_of_row(tmp_path / "in.csv", found, row) for row in range(2)] == [3, 6]


@pytest.mark.parametrize(
    ("header", "names", "note"),
    [
        (",a,\n0,1,2\n", ("column_1", "a", "column_3"), "the header has no name for column_1"),
        ("1,2.5,0\n2,3.5,1\n", ("1", "2.5", "0"), "the header is nothing but numbers (1, 2.5, 0)"),
        ("a^b\n1^2\n", ("a^b",), "one column, 'a^b'; if it is several, say what divides them: --delimiter"),
        ("a, b\n1,2\n", ("a", " b"), "the header has blanks around ' b'; they are part of the name"),
    ],
)
def test_odd_headers_are_said(recognised, header, names, note):
    """A header that may be no header, or lacks a name, is read as it is and spoken of."""
    found = recognised(header)
    assert found.header == names
    assert any(each.startswith(note) for each in found.notes)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_encoding_and_compression_are_recognised_by_the_bytes(recognised, encoding, pack):
    """The bytes tell encoding and compression, whatever the file's name says."""
    found = recognised(pack("größe,b\n1,2\n".encode(encoding)))
    assert found.header == ("größe", "b")


def test_encoding_can_be_given(recognised):
    """A file that is not UTF-8 is read by the encoding that is given, in the header too."""
    assert recognised("größe;b\n1;é\n".encode("cp1252"), encoding="cp1252").header == ("größe", "b")
    assert recognised("名前,b\n東京,1\n".encode("shift_jis"), encoding="shift_jis").header == ("名前", "b")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "id,größe\n1,3\n".encode("latin-1"),
            "line 1: byte 0xF6 is not UTF-8; it looks like Latin-1 / Windows-1252: give",
        ),
        (
            b"\xe8\xec\xff,b\n\xec\xe8\xf0,1\n",
            "line 1: byte 0xE8 is not UTF-8; give its encoding, such as --encoding cp1251",
        ),
        (
            "a,b\né,1\n".encode() + b"\xff,1\n",
            "line 3: byte 0xFF is not UTF-8, but the text before it is; mend the line",
        ),
        ("a,b\n1,2\n".encode("utf-16") + b"x", "line 3: byte 0x78 is not UTF-16; mend the line, or give another"),
        (b"\0" * 5000, "is not text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\xf3", "is not text"),
        (b"PK\x05\x06" + b"\0" * 18, "is a zip archive; unpack it"),
        (lzma.compress(b"a,b\n1,2\n"), "is compressed by xz; unpack it: xz -d"),
        (gzip.compress(gzip.compress(b"a,b\n1,2\n", mtime=0), mtime=0), "is compressed twice; unpack it once"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-6], "cannot be read|Truncated"),
        (b"<!DOCTYPE html><html>", "is a web page or XML"),
        (b'{"a": 1}\n{"a": 2}\n', "is JSON"),
        (gzip.compress(b"", mtime=0), "the file is empty"),
    ],
)
def test_what_is_no_csv_is_named(recognised, content, words):
    """Another kind of file, or another encoding, is refused in a line that says what it is and what to do."""
    with pytest.raises((DataError, OSError), match=words):
        recognised(content)


def test_workbooks_and_parquet_are_named(recognised):
    """Excel's files are told from other archives, and Parquet from text."""
    book, table = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(book, "w") as archive:
        archive.writestr("xl/workbook.xml", "a,b\n1,2\n")
    pq.write_table(pa.table({"a": [1]}), table)
    with pytest.raises(DataError, match="is an Excel workbook; save its sheet as CSV"):
        recognised(book.getvalue())
    with pytest.raises(DataError, match="is Parquet already; it needs no conversion"):
        recognised(table.getvalue())
    assert recognised("PAR1,b\n1,2\n").header == ("PAR1", "b")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((";;", None, None, None), "--delimiter ';;': expected one ASCII character"),
        (('"', None, None, None), "--delimiter '\"': expected one ASCII character"),
        ((None, "x", None, None), "--decimal 'x': expected"),
        ((None, None, "klingon", None), "--encoding klingon: not known"),
        ((None, None, "base64", None), "--encoding base64: not known"),
        ((None, None, None, "//"), "--comment '//': expected one character"),
    ],
)
def test_options_that_no_file_can_have_are_refused(options, words):
    """An option that cannot be says what was expected."""
    with pytest.raises(DataError, match=words):
        parse_options(*options)


def test_delimiters_have_names():
    """A tab can be given by its name, and an encoding by any of its names."""
    assert parse_options("tab", ",", "UTF8", "#") == DialectOptions("\t", ",", "utf-8", "#")
