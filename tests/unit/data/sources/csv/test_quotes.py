"""Quotes: one that Arrow would take away, or that swallows rows, is found; whole quoted fields cost no second look."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sources.csv.quotes import QuoteWatch, quote_fault


def astray(data: bytes, size: int = 1 << 20, delimiter: str = ",") -> bool:
    """Tell what the watch says after it has read everything, some bytes at a time."""
    watch = QuoteWatch(pa.BufferReader(data), delimiter)
    while watch.read(size):
        pass
    return watch.astray


def fault(text: str, delimiter: str = ",") -> tuple[int, str] | None:
    """Return the fault of a text without a header."""
    return quote_fault(io.StringIO(text, newline=""), 0, delimiter)


@pytest.mark.parametrize("text", ['a,"b"\r\n"c","d ""e"""\n', '"x\ny",""\n', '\ufeff"a",b\n', "a,b\n", '"a"', ""])
def test_whole_quoted_fields_need_no_second_look(text: str):
    """Quotes around whole fields, doubled ones, line ends and a byte-order mark are as CSV has them."""
    assert not astray(text.encode())


@pytest.mark.parametrize("text", ['id,"a \\"b\\" c"\n', '"a"b,c\n', '1,"open\n2,b\n', '"a" ,b\n'])
def test_quotes_that_would_be_lost_are_found(text: str):
    """Text behind a closing quote, and a quote that is never closed, are seen as they pass and named after."""
    assert astray(text.encode())
    assert fault(text)


def test_line_and_remedy_are_told():
    """The line where the record begins is named; backslashes before quotes get their own advice."""
    assert fault('a,b\n"x\ny",1\n"p"q,2\n') == (
        4,
        "a quote opens that is not closed, or that more text follows; close, double or remove it",
    )
    line, reason = fault('a,b\n1,"say \\"hi\\""\n') or (0, "")
    assert line == 2
    assert 'write "" for \\"' in reason


def test_quotes_within_plain_text_are_values():
    """`5" pipe` has nothing to be closed: a second look finds no fault."""
    assert astray(b'a,b\n1,5" pipe\n')
    assert fault('a,b\n1,5" pipe\n') is None


@given(st.text('",;a\n\r', max_size=20), st.integers(1, 5), st.sampled_from(",;"))
def test_what_passes_unsuspected_has_no_fault(text: str, size: int, delimiter: str):
    """Whatever pieces it is read in: text that raises no suspicion is whole by Python's strict reader as well."""
    suspected = astray(text.encode(), size, delimiter)
    assert suspected == astray(text.encode(), delimiter=delimiter)
    assert suspected or fault(text, delimiter) is None
