"""Arrow's functions on arrays of text, as this folder uses them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def is_among(text: pa.StringArray, words: Sequence[str]) -> pa.BooleanArray:
    """Mark the values that are one of some words; null is none."""
    return pc.call_function("is_in", [text], pc.SetLookupOptions(pa.array(words, pa.string())))


def is_empty(text: pa.StringArray) -> pa.BooleanArray:
    """Mark the values without a character; null stays null."""
    return pc.call_function("equal", [pc.call_function("binary_length", [text]), pa.scalar(0, pa.int32())])


def matches(text: pa.StringArray, pattern: str) -> pa.BooleanArray:
    """Mark the values in which a pattern of RE2 is found; null stays null."""
    return pc.call_function("match_substring_regex", [text], pc.MatchSubstringOptions(pattern))


def begins_with(text: pa.StringArray, prefix: str) -> pa.BooleanArray:
    """Mark the values that begin with a text; null stays null."""
    return pc.call_function("starts_with", [text], pc.MatchSubstringOptions(prefix))


def position(text: pa.StringArray, part: str) -> npt.NDArray[np.int64]:
    """Return at which byte of each value a part of it is first found; -1 where it is not, or in null."""
    found = pc.call_function("find_substring", [text], pc.MatchSubstringOptions(part))
    return found.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)


def replaced(text: pa.StringArray, old: str, new: str) -> pa.StringArray:
    """Replace a text wherever it is found."""
    return pc.call_function("replace_substring", [text], pc.ReplaceSubstringOptions(old, new))


def unsigned(text: pa.StringArray) -> pa.StringArray:
    """Take away a plus before a number."""
    options = pc.ReplaceSubstringOptions(r"^\+([0-9.])", r"\1")
    return pc.call_function("replace_substring_regex", [text], options)


def trimmed(text: pa.StringArray) -> pa.StringArray:
    """Take away the blanks around values."""
    return pc.call_function("utf8_trim_whitespace", [text])


def where(mask: pa.BooleanArray, yes: pa.Array | pa.Scalar, no: pa.Array | pa.Scalar) -> pa.Array:
    """Choose value by value."""
    return pc.call_function("if_else", [mask, yes, no])


def inverted(mask: pa.BooleanArray) -> pa.BooleanArray:
    """Turn marks around; null stays null."""
    return pc.call_function("invert", [mask])


def count(mask: pa.BooleanArray) -> int:
    """Count the marks; null is none."""
    return pc.call_function("sum", [mask]).as_py() or 0


def words_of(text: pa.StringArray) -> dict[str, int]:
    """Count each different value."""
    pairs = pc.call_function("value_counts", [text]).to_pylist()
    return {pair["values"]: pair["counts"] for pair in pairs}
