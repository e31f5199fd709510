"""Rows of a CSV file as text, block by block; a line that breaks the table is refused with its number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from data.errors import DataError
from data.sources.csv.dialect import Dialect, line_of_row, rows_of
from data.sources.csv.encoding import open_utf8, undecodable
from data.sources.csv.quotes import QuoteWatch, quote_fault
from data.sources.csv.records import file_lines, printable
from data.sources.csv.text_arrays import begins_with, inverted

_BLOCK_BYTES = 8 << 20


class TextBlocks:
    """The blocks of one file. `comments` counts the lines between the rows that were left out as comments.

    Args:
        file: the file.
        dialect: how it is read.
        ahead: read the next blocks while one is worked on.
    """

    def __init__(self, file: Path, dialect: Dialect, ahead: bool = True) -> None:
        self._file = file
        self._dialect = dialect
        self._ahead = ahead
        self._rows = 0
        self._ragged = False
        self.comments = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield blocks of string columns without nulls, of at least one row each.

        Raises:
            DataError: a line has too few or too many fields, is not in the file's encoding, or a quote is not closed
                or followed by more text.
        """
        with self._translated(), open_utf8(self._file, self._dialect.coding) as stream:
            watch = QuoteWatch(stream, self._dialect.delimiter)
            for block in self._reader(pa.PythonFile(watch, "r")):
                kept = self._without_comments(block)
                self._rows += kept.num_rows
                # A block may hold nothing but comments.
                if kept.num_rows:
                    yield kept
        if watch.astray:
            self._check_quotes()

    def _reader(self, stream: pa.NativeFile) -> pyarrow.csv.CSVStreamingReader:
        names = list(self._dialect.header)
        return pyarrow.csv.open_csv(
            stream,
            pyarrow.csv.ReadOptions(
                block_size=_BLOCK_BYTES, use_threads=self._ahead, column_names=names, skip_rows=self._dialect.skip
            ),
            pyarrow.csv.ParseOptions(
                delimiter=self._dialect.delimiter,
                newlines_in_values=True,
                # In a file of one column an empty line is an empty value.
                ignore_empty_lines=len(names) > 1,
                invalid_row_handler=self._take_ragged,
            ),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )

    def _take_ragged(self, row: pyarrow.csv.InvalidRow) -> str:
        if self._dialect.comment and row.text.startswith(self._dialect.comment):
            self.comments += 1
            return "skip"
        self._ragged = True
        return "error"

    def _without_comments(self, block: pa.RecordBatch) -> pa.RecordBatch:
        if not self._dialect.comment:
            return block
        rows = inverted(begins_with(block.column(0), self._dialect.comment))
        kept = block.filter(rows)
        self.comments += block.num_rows - kept.num_rows
        return kept

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError:
            raise undecodable(self._file, self._dialect.coding) from None
        except (pa.ArrowException, OSError) as exc:
            raise self._explained(exc) from exc

    def _explained(self, exc: Exception) -> DataError:
        message = str(exc)
        if "invalid UTF8" in message:
            return undecodable(self._file, self._dialect.coding)
        if self._ragged:
            return self._ragged_error()
        if "straddl" in message:
            line = line_of_row(self._file, self._dialect, self._rows)
            return DataError(f"{self._file}, line {line}: the row is longer than 8 MiB; is a quote never closed?")
        return DataError(f"{self._file}: {' '.join(message.split())}; get the file again")

    def _ragged_error(self) -> DataError:
        """Name the line by walking through the file, as Arrow numbers no rows when it reads ahead."""
        width = len(self._dialect.header)
        rows = rows_of(self._file, self._dialect)
        line, record = next((row for row in rows if row[1] and len(row[1]) != width), (0, []))
        text = self._dialect.delimiter.join(record)
        remedy = ", or leave out such lines: --comment '#'" if text.startswith("#") else ""
        remedy += "; is a quote never closed?" if "\n" in text else ""
        wrong = f"Expected {width} columns, got {len(record)}: {printable(text)}"
        return DataError(f"{self._file}, line {line}: {wrong}; mend or remove the line{remedy}")

    def _check_quotes(self) -> None:
        lines = file_lines(self._file, self._dialect.coding)
        fault = quote_fault(lines, self._dialect.skip, self._dialect.delimiter)
        if fault:
            line, reason = fault
            raise DataError(f"{self._file}, line {line}: {reason}")
