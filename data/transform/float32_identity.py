"""Float32 identity: how many of a column's different whole numbers are still different when encoded as float32.

Float32 holds every whole number up to 2**24. Beyond it neighbours are encoded alike: of an amount that is rounding, of
a code or an identifier it is another value. Columns with fractions are amounts, and not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa

from data.schema.features.feature import Feature, FeatureType
from data.transform.encoding import FLOAT32_MAX, as_floats, named_column
from data.transform.hashing import GOLDEN, splitmix64

KEPT = 4_096
"""Most different numbers that are kept of a column; of a column with more, the losses are those among the kept ones."""

CATEGORY_WORDS = 1_000
"""Most different values with which a column is advised to become a category."""

_LARGE_DECIMAL_DIGITS = 76


@dataclass(frozen=True)
class DistinctNumbers:
    """The different whole numbers of a column, at most `KEPT`: a column cut anyhow and merged has the same ones."""

    encoded: np.ndarray
    """As float32, shape (n,); equal ones are neighbours."""
    identities: np.ndarray
    """Of each number a uint64 that differs from that of any other, shape (n,)."""
    complete: bool = True
    """Whether the column has no more of them."""
    whole: bool = True
    """False once a value with a fraction was seen; no number is kept then."""

    @property
    def before(self) -> int:
        """How many different numbers there are."""
        return len(self.identities)

    @property
    def after(self) -> int:
        """How many of them are different in float32."""
        return int(_is_first(self.encoded).sum())

    @property
    def merged(self) -> bool:
        """Whether some become one."""
        return self.after < self.before

    @property
    def mostly_lost(self) -> bool:
        """Whether more than half of the different numbers are lost."""
        return 2 * self.after < self.before

    @property
    def few(self) -> bool:
        """Whether they are few enough for the words of a category."""
        return self.complete and self.before <= CATEGORY_WORDS

    @property
    def text(self) -> str:
        """What becomes of them, for a message."""
        least = "" if self.complete else "at least "
        return f"{least}{self.before:,} different values become {self.after:,} in 32-bit floating point"

    def remedy(self, kind: pa.DataType) -> str:
        """Return what to do about it, for a column of this Arrow type."""
        if not self.few:
            return "leave it out if it is an identifier, or write it in larger units or from a nearer zero"
        if pa.types.is_integer(kind):
            return "declare it as a category"
        return "write it as integers or text, and declare it as a category"

    def merge(self, other: DistinctNumbers) -> DistinctNumbers:
        """Return the numbers of this and of another piece of the column."""
        if not (self.whole and other.whole):
            return _FRACTIONS
        encoded = np.concatenate([self.encoded, other.encoded])
        identities = np.concatenate([self.identities, other.identities])
        return _kept(encoded, identities, self.complete and other.complete)


def distinct_numbers(table: pa.Table, features: Iterable[Feature]) -> dict[str, DistinctNumbers]:
    """Count the different whole numbers of each feature that is encoded as a number, in a piece of a table.

    Raises:
        DataError: a column is missing.
    """
    numeric = (FeatureType.NUMBER, FeatureType.INTEGER)
    # What is computed is an amount, or small: no identifier.
    counted = (f.name for f in features if f.type in numeric and not f.is_computed)
    return {name: column_numbers(named_column(table, name), name) for name in counted}


def column_numbers(column: pa.ChunkedArray, name: str) -> DistinctNumbers:
    """Count the different whole numbers of a column; none of a type whose values float32 holds."""
    kind = column.type
    wide = (pa.types.is_integer(kind) and kind.bit_width > 16) or pa.types.is_float64(kind)
    if not (wide or (pa.types.is_decimal(kind) and kind.scale <= 0)):
        return _NONE
    # Amounts nearly always show it at once.
    if pa.types.is_float64(kind) and (_has_fractions(column.slice(0, 1000)) or _has_fractions(column)):
        return _FRACTIONS
    different = column.unique().drop_null()
    floats = as_floats(pa.chunked_array([different]), name)
    finite = np.isfinite(floats)
    # Adding zero turns -0.0 into 0.0.
    encoded = np.clip(floats[finite], -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32) + np.float32(0)
    identities = _identities(different, floats)[finite]
    if len(encoded) <= KEPT:
        return _kept(encoded, identities, complete=True)
    hashes = _hashes(encoded)
    # Sorting what is not kept would take ten times as long.
    first = hashes <= np.partition(hashes, KEPT)[KEPT]
    return _kept(encoded[first], identities[first], complete=False)


def merge_numbers(parts: Iterable[Mapping[str, DistinctNumbers]]) -> dict[str, DistinctNumbers]:
    """Merge the counts of all pieces of a table, by feature."""
    return reduce(_merge_columns, parts, {})


def _merge_columns(
    merged: dict[str, DistinctNumbers], part: Mapping[str, DistinctNumbers]
) -> dict[str, DistinctNumbers]:
    return merged | {name: numbers.merge(merged.get(name, _NONE)) for name, numbers in part.items()}


def _has_fractions(column: pa.ChunkedArray) -> bool:
    values = as_floats(column, "")
    finite = values[np.isfinite(values)]
    return bool((finite != np.floor(finite)).any())


def _identities(different: pa.Array, floats: np.ndarray) -> np.ndarray:
    if pa.types.is_integer(different.type):
        return different.to_numpy(zero_copy_only=False).astype(np.int64, copy=False).view(np.uint64)
    if pa.types.is_floating(different.type):
        return (floats + 0.0).view(np.uint64)
    # Of decimals the digits that float64 lacks count too: the words of the widest type are hashed.
    wide = different.cast(pa.decimal256(_LARGE_DECIMAL_DIGITS, different.type.scale))
    words = np.frombuffer(wide.buffers()[1], np.uint64).reshape(-1, 4)[wide.offset : wide.offset + len(wide)]
    return reduce(lambda hashed, word: splitmix64(hashed * GOLDEN + word), words.T, np.zeros(len(wide), np.uint64))


def _kept(encoded: np.ndarray, identities: np.ndarray, complete: bool) -> DistinctNumbers:
    """Keep the first numbers in an order by the hash of their float32, so that those which become one stay together."""
    order = np.lexsort((identities, _hashes(encoded)))
    encoded, identities = encoded[order], identities[order]
    once = _is_first(encoded) | _is_first(identities)
    encoded, identities = encoded[once], identities[once]
    return DistinctNumbers(encoded[:KEPT], identities[:KEPT], complete and len(identities) <= KEPT)


def _hashes(encoded: np.ndarray) -> np.ndarray:
    return splitmix64(encoded.view(np.uint32).astype(np.uint64))


def _is_first(ordered: np.ndarray) -> np.ndarray:
    """Return which values differ from the one before, bool of shape (n,)."""
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return first


_NONE = DistinctNumbers(np.empty(0, np.float32), np.empty(0, np.uint64))
_FRACTIONS = DistinctNumbers(_NONE.encoded, _NONE.identities, whole=False)
