"""Column profiles: properties of the columns of an unknown table, and rules for those that cannot be features."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.sources.toml_text import quoted
from data.sources.type_advice import derivation
from data.transform.encoding import as_floats
from data.transform.event_time import NO_TIME, is_time
from data.transform.float32_identity import CATEGORY_WORDS, DistinctNumbers, column_numbers
from data.transform.missing import is_text, missing_as_null, missing_mask
from data.transform.text_tokens import tokens
from data.transform.time_values import Times, first_unreadable, times_us

_NEARLY_UNIQUE = 0.98
_TELLTALE_VALUES = 50
_INDEX_NAME = re.compile(r"__index_level_\d+__")
# Of a CSV file that pandas wrote, the index has an empty name.
_UNNAMED = re.compile(r"|Unnamed: ?\d+|index|level_\d+")
NUMBER = r"^\s*[+-]?\d*([.,]\d+)*([eE][+-]?\d+)?\s*$"
"""Text that is a number, with a decimal point or comma."""
ID_NAME = re.compile(r"(^|[^a-z])(id|key|uuid|guid)$|[a-z](Id|ID)$", re.IGNORECASE)

GIVEN_AWAY = "gives the label away: each of its values goes with one label only"
"""Why a column is left out that is a copy of the label."""


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
    def snake_name(self) -> str:
        """The name in lower case, its words apart: `MerchantType` is `merchant_type`."""
        return re.sub(r"\W+", "_", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", self.name)).lower()

    @property
    def number(self) -> bool:
        """Whether the values are integers, floats or decimals."""
        return self.integer or pa.types.is_floating(self.kind) or pa.types.is_decimal(self.kind)

    @cached_property
    def floats(self) -> np.ndarray:
        """The values as float64 of shape (n,), missing ones NaN; of times the microseconds since 1970."""
        if is_time(self.kind):
            return np.where(self.times.us == NO_TIME, np.nan, self.times.us)
        return as_floats(self.values, self.name)

    @cached_property
    def ranked(self) -> np.ndarray | None:
        """`floats`, also of text that is nothing but numbers, with a decimal comma or point; None of other words."""
        if not self.text:
            return self.floats
        numbers = pc.call_function(
            "replace_substring", [missing_as_null(self.values)], pc.ReplaceSubstringOptions(",", ".")
        )
        try:
            return numbers.cast(pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:
            return None

    @cached_property
    def whole(self) -> bool:
        """Whether the values are integers, or other numbers without a fraction."""
        if self.integer or not self.number:
            return self.integer
        finite = self.floats[np.isfinite(self.floats)]
        return bool((finite == np.floor(finite)).all())

    @cached_property
    def codes(self) -> np.ndarray:
        """Of each value a number from 0 that equal values share, int64 of shape (n,); missing is a value."""
        codes = self.values.combine_chunks().dictionary_encode(null_encoding="encode").indices
        return codes.to_numpy(zero_copy_only=False).astype(np.int64)

    @cached_property
    def numbers(self) -> DistinctNumbers:
        """The different whole numbers, before and after they are encoded as float32."""
        return column_numbers(self.values, self.name)

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
    def decimals_as_text(self) -> bool:
        """Whether the values are strings that look like numbers with a decimal point or comma, as far as one looks."""
        sample = self.present.slice(0, 1000)
        if not self.text or not len(sample):
            return False
        numbers = pc.call_function("match_substring_regex", [sample], pc.MatchSubstringOptions(NUMBER))
        decimals = pc.call_function("match_substring_regex", [sample], pc.MatchSubstringOptions("[.,]"))
        return pc.call_function("all", [numbers]).as_py() and pc.call_function("any", [decimals]).as_py()

    @cached_property
    def time(self) -> bool:
        """Whether the values are timestamps or dates, or strings that are times, as far as one looks."""
        if not self.text:
            return is_time(self.kind)
        sample = self.present.slice(0, 1000)
        return len(sample) > 0 and not times_us(sample, self.name).unreadable.any()

    @cached_property
    def times(self) -> Times:
        """The times of a column of times."""
        return times_us(self.values, self.name)

    @cached_property
    def distinct(self) -> int:
        """Number of different values that are present."""
        return len(self.present.unique())


@dataclass(frozen=True)
class Context:
    """What the rules compare a column with; arrays of shape (n,)."""

    label: np.ndarray
    """float64: 0 or 1, of more classes their positions from 0, or the numbers that are predicted."""
    times: np.ndarray | None
    """Event times, int64, microseconds since 1970 UTC; None without an event time."""
    entities: np.ndarray | None
    """Entities as integer codes from 0; None without an entity."""
    indexes: frozenset[str] = frozenset()
    """Columns that pandas wrote as the index of a frame."""
    classes: int | None = 2
    """Number of classes; None where numbers are predicted."""

    @property
    def most_words(self) -> int:
        """Most different words of a category."""
        return min(CATEGORY_WORDS, len(self.label) // 2)

    @cached_property
    def contrasts(self) -> tuple[np.ndarray, ...]:
        """What a column may tell of the label, each 0 or 1, float64 of shape (n,).

        Of two classes the label, of more each class against the rest; of numbers whether they lie above each of their
        quartiles, at which no outlier counts for more than another row.
        """
        if self.classes is None:
            quartiles = set(np.quantile(self.label, (0.25, 0.5, 0.75), method="lower")) - {self.label.max()}
            return tuple((self.label > cut).astype(np.float64) for cut in sorted(quartiles or {self.label.min()}))
        if self.classes == 2:
            return (self.label,)
        return tuple((self.label == code).astype(np.float64) for code in range(self.classes))


def _unsupported(column: Column, context: Context) -> str | None:
    if pa.types.is_null(column.kind) or not len(column.present):
        return "empty in every row"
    if column.text or column.number or pa.types.is_boolean(column.kind) or is_time(column.kind):
        return None
    return f"holds {column.kind}; {derivation(column.kind) or 'write it as numbers or strings if it matters'}"


def _row_index(column: Column, context: Context) -> str | None:
    if _INDEX_NAME.fullmatch(column.name):
        return "the row index that pandas wrote"
    if not (column.name in context.indexes or _UNNAMED.fullmatch(column.name)) or not column.whole or column.missing:
        return None
    # Frames that were put together begin anew.
    values = column.floats
    counts = values[0] == 0 and ((values[1:] == 0) | (np.diff(values) == 1)).all()
    return "the row index that pandas wrote: it counts the rows" if counts else None


def _constant(column: Column, context: Context) -> str | None:
    value = str(column.present[0].as_py())
    return f"always {quoted(value[:40])}" if column.distinct == 1 and not column.missing else None


def _telltale(column: Column, context: Context) -> str | None:
    # With many values or few rows each, values that go with one label only are chance.
    if column.missing or column.distinct > min(_TELLTALE_VALUES, len(context.label) // 10):
        return None
    _, first = np.unique(column.codes, return_index=True)
    return GIVEN_AWAY if (context.label == context.label[first][column.codes]).all() else None


def _partly_times(column: Column, context: Context) -> str | None:
    count = int(column.times.unreadable.sum())
    if not count:
        return None
    first = first_unreadable(column.values, column.times)
    return f"times, but {count:,} values are none, such as {first}; correct them to derive from it"


def _known_later(column: Column, context: Context) -> str | None:
    if context.times is None:
        return None
    us = column.times.us
    later = int(((us > context.times) & (context.times != NO_TIME)).sum())
    return f"a time later than the event time in {later:,} rows: it was not known by then" if later else None


def _runs_with_time(column: Column, context: Context) -> str | None:
    if context.times is None or not column.number or column.missing:
        return None
    sorted_values = column.floats[np.argsort(context.times, kind="stable")]
    return "runs with the event time" if (np.diff(sorted_values) >= 0).all() else None


def _written_number(column: Column, context: Context) -> str | None:
    if not column.text or column.distinct <= context.most_words or not column.decimals_as_text:
        return None
    return f"{column.distinct:,} different numbers written as text; convert the column to numbers"


def _identifier(column: Column, context: Context) -> str | None:
    if not (column.text or column.integer):
        return None
    if free_text(column, context):
        return None
    many = column.distinct > context.most_words
    if len(column.present) > 20 and column.distinct > _NEARLY_UNIQUE * len(column.present):
        return "an identifier: (nearly) every row has its own value"
    if ID_NAME.search(column.name) and column.distinct > _TELLTALE_VALUES:
        return f"an identifier by its name, {column.distinct:,} different ones"
    return f"{column.distinct:,} different words, too many for a category" if column.text and many else None


def _merged(column: Column, context: Context) -> str | None:
    if not column.number or not column.numbers.merged or kept_as_words(column, context):
        return None
    if not (column.numbers.few or column.numbers.mostly_lost):
        return None
    remedy = f"; {column.numbers.remedy(column.kind)}" if column.numbers.few else ""
    return f"{column.numbers.text}{remedy}"


def kept_as_words(column: Column, context: Context) -> bool:
    """Return whether integers are a category because float32 would merge some, and they are few enough."""
    return column.integer and column.numbers.merged and column.numbers.few and column.distinct <= context.most_words


def free_text(column: Column, context: Context) -> bool:
    """Return whether words are sentences: of several words each, and too many different ones for a category."""
    return column.text and column.distinct > context.most_words and _share_of_sentences(column) > 0.5


RULES: tuple[Callable[[Column, Context], str | None], ...] = (
    _unsupported,
    _row_index,
    _constant,
    _telltale,
    _written_number,
    _runs_with_time,
    _identifier,
    _merged,
)
"""Each returns why a column cannot be a feature, or None; the first reason counts."""

TIME_RULES: tuple[Callable[[Column, Context], str | None], ...] = (
    _unsupported,
    _partly_times,
    _constant,
    _telltale,
    _known_later,
)
"""The same for a column of times: why nothing can be derived from it."""


def _share_of_sentences(column: Column) -> float:
    sample = column.present.slice(0, 1000)
    return sum(len(tokens(text)) > 2 for text in sample.to_pylist()) / max(len(sample), 1)
