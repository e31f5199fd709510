"""Quotes of a CSV file: whether each opens or closes a whole field, told as the bytes pass by.

Arrow takes the quotes of `"a \"b\" c"` and `"a"b` away and says nothing, and a quote that is never closed swallows the
rows below it. In a file without such faults every other quote follows a delimiter or a line end, and the ones between
are followed by one; two that touch stand for one in the value.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable
from itertools import islice

import numpy as np
import pyarrow as pa

_QUOTE = ord('"')


class QuoteWatch:
    """A stream of UTF-8 that is read through it; `astray` says whether a quote read so far may be at fault.

    It may be in a value that does not begin with a quote, too (`5" pipe`): `quote_fault` tells for sure, and slowly.
    """

    closed = False

    def __init__(self, stream: pa.NativeFile, delimiter: str) -> None:
        self._stream = stream
        self._edges = np.zeros(256, bool)
        self._edges[[ord(delimiter), *b'\n\r"']] = True
        self._quotes = 0
        self._last = ord("\n")
        self._closing = False
        """Whether the last byte is a quote that closes, so that the next must end the field."""
        self._strayed = False

    def read(self, size: int | None = None) -> bytes:
        """Return the next bytes of the stream, as a file does."""
        data = self._stream.read(size)
        if data and not self._strayed:
            self._look(data.removeprefix(codecs.BOM_UTF8))
        return data

    @property
    def astray(self) -> bool:
        """Whether some quote neither opens nor closes a field, or the last of all opens one."""
        return self._strayed or self._quotes % 2 == 1

    def _look(self, data: bytes) -> None:
        codes = np.frombuffer(data or b"\n", np.uint8)
        self._strayed = self._closing and not self._edges[codes[0]]
        self._closing = False
        if b'"' in data:
            self._look_at(codes, np.flatnonzero(codes == _QUOTE))
        self._last = codes[-1]

    def _look_at(self, codes: np.ndarray, quotes: np.ndarray) -> None:
        opens, closes = quotes[self._quotes % 2 :: 2], quotes[1 - self._quotes % 2 :: 2]
        self._quotes += quotes.size
        if opens.size and opens[0] == 0:
            self._strayed |= not self._edges[self._last]
            opens = opens[1:]
        if closes.size and closes[-1] == codes.size - 1:
            self._closing, closes = True, closes[:-1]
        self._strayed |= not (self._edges[codes[opens - 1]].all() and self._edges[codes[closes + 1]].all())


def quote_fault(lines: Iterable[str], skip: int, delimiter: str) -> tuple[int, str] | None:
    """Return the line, counted from 1, of the first record with a quote at fault, and what to do; None without one.

    Args:
        lines: all lines of a file, with their ends.
        skip: how many of them come before the first row.
        delimiter: what divides the fields.
    """
    seen: list[str] = []

    def noted() -> Iterable[str]:
        for text in islice(lines, skip, None):
            seen.append(text)
            yield text

    reader = csv.reader(noted(), delimiter=delimiter, strict=True)
    line = skip
    try:
        for _ in reader:
            line = skip + reader.line_num
            seen.clear()
    except csv.Error:
        escaped = any('\\"' in text for text in seen)
        remedy = (
            'here a backslash marks them: write "" for \\" (in Spark: escape=\'"\')'
            if escaped
            else "close, double or remove it"
        )
        return line + 1, f"a quote opens that is not closed, or that more text follows; {remedy}"
    return None
