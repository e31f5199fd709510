"""Column profiles: properties of the columns of an unknown table, and rules for those that cannot be features."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.transform.encoding import as_floats
from data.transform.event_time import event_us, is_time
from data.transform.missing import is_text, missing_mask

_MOST_CATEGORIES = 1_000
_NEARLY_UNIQUE = 0.98
_TELLTALE_VALUES = 50
ID_NAME = re.compile(r"(^|[^a-z])(id|key|uuid|guid)$|[a-z](Id|ID)$", re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """One column of a table, with the properties that the rules look at."""

    name: str
    values: pa.ChunkedArray

    @property
    def kind(self) -> pa.DataType:
        """Arrow type of the values."""
        return self.values.type

    @property
    def text(self) -> bool:
        """Whether the values are strings."""
        return is_text(self.kind)

    @property
    def integer(self) -> bool:
        """Whether the values are integers."""
        return pa.types.is_integer(self.kind)

    @property
    def number(self) -> bool:
        """Whether the values are integers, floats or decimals."""
        return self.integer or pa.types.is_floating(self.kind) or pa.types.is_decimal(self.kind)

    @cached_property
    def floats(self) -> np.ndarray:
        """The values as float64 of shape (n,), missing ones NaN."""
        return as_floats(self.values, self.name)

    @cached_property
    def present(self) -> pa.ChunkedArray:
        """The values that are not missing."""
        return self.values.filter(pa.array(~missing_mask(self.values)))

    @cached_property
    def missing(self) -> int:
        """Number of values that are null, NaN or ''."""
        return len(self.values) - len(self.present)

    @property
    def empty(self) -> int:
        """Number of values that are ''."""
        return self.missing - self.values.null_count if self.text else 0

    @cached_property
    def distinct(self) -> int:
        """Number of different values that are present."""
        return len(self.present.unique())


@dataclass(frozen=True)
class Context:
    """What the rules compare a column with; arrays of shape (n,)."""

    label: np.ndarray
    """float64, 0 or 1."""
    times: np.ndarray | None
    """Event times, int64, microseconds since 1970 UTC; None without an event time."""
    entities: np.ndarray | None
    """Entities as integer codes from 0; None without an entity."""


def _unsupported(column: Column, context: Context) -> str | None:
    if pa.types.is_null(column.kind) or not len(column.present):
        return "empty in every row"
    if is_time(column.kind):
        return "a time; derive a number from it if it matters"
    known = column.text or column.number or pa.types.is_boolean(column.kind)
    return None if known else f"holds {column.kind}, which is neither a number, a word nor a truth value"


def _constant(column: Column, context: Context) -> str | None:
    value = str(column.present[0].as_py())
    return f"always {quoted(value[:40])}" if column.distinct == 1 and not column.missing else None


def _telltale(column: Column, context: Context) -> str | None:
    # With many values or few rows each, values that go with one label only are chance.
    if column.missing or column.distinct > min(_TELLTALE_VALUES, len(context.label) // 10):
        return None
    codes = column.values.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    share = np.bincount(codes, context.label) / np.bincount(codes)
    return "gives the label away: each of its values goes with one label only" if set(share) <= {0.0, 1.0} else None


def _written_time(column: Column, context: Context) -> str | None:
    if not column.text:
        return None
    try:
        event_us(pa.chunked_array([column.present.slice(0, 1000).combine_chunks()]), column.name)
    except DataError:
        return None
    return "a time written as text; derive a number from it if it matters"


def _runs_with_time(column: Column, context: Context) -> str | None:
    if context.times is None or not column.number or column.missing:
        return None
    sorted_values = column.floats[np.argsort(context.times, kind="stable")]
    return "runs with the event time" if (np.diff(sorted_values) >= 0).all() else None


def _identifier(column: Column, context: Context) -> str | None:
    if not (column.text or column.integer):
        return None
    spaces = column.text and _share_with_spaces(column) > 0.5
    many = column.distinct > min(_MOST_CATEGORIES, len(context.label) // 2)
    if column.text and spaces and many:
        return f"free text, {column.distinct:,} different ones"
    if len(column.present) > 20 and column.distinct > _NEARLY_UNIQUE * len(column.present):
        return "an identifier: (nearly) every row has its own value"
    if ID_NAME.search(column.name) and column.distinct > _TELLTALE_VALUES:
        return f"an identifier by its name, {column.distinct:,} different ones"
    return f"{column.distinct:,} different words, too many for a category" if column.text and many else None


RULES: tuple[Callable[[Column, Context], str | None], ...] = (
    _unsupported,
    _constant,
    _telltale,
    _written_time,
    _runs_with_time,
    _identifier,
)
"""Each returns why a column cannot be a feature, or None; the first reason counts."""


def _share_with_spaces(column: Column) -> float:
    sample = column.present.slice(0, 1000)
    return sum(len(text.split()) > 2 for text in sample.to_pylist()) / max(len(sample), 1)


def quoted(text: str) -> str:
    """Quote text as a TOML basic string."""
    # JSON's escapes are valid in TOML; only DEL, which JSON leaves as it is, TOML forbids.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
