"""Arrow's functions on arrays of text, as this folder uses them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc


def is_among(text: pa.StringArray, words: Sequence[str]) -> pa.BooleanArray:
    """Mark the values that are one of some words; null is none."""
    return pc.call_function("is_in", [text], pc.SetLookupOptions(pa.array(words, pa.string())))


def matches(text: pa.StringArray, pattern: str) -> pa.BooleanArray:
    """Mark the values in which a pattern of RE2 is found; null stays null."""
    return pc.call_function("match_substring_regex", [text], pc.MatchSubstringOptions(pattern))


def begins_with(text: pa.StringArray, prefix: str) -> pa.BooleanArray:
    """Mark the values that begin with a text; null stays null."""
    return pc.call_function("starts_with", [text], pc.MatchSubstringOptions(prefix))


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
