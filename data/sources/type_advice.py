"""Type advice: what to do about a column whose type cannot hold its role, derived from the type and the values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pyarrow as pa

from data.schema.features.feature import FeatureType
from data.sources.toml_text import toml_value
from data.transform.missing import is_text

Value = TypeVar("Value")
_LEAVE_OUT = "or take the feature out of the use case"
_YES = ("1", "true", "t", "yes", "y", "positive", "pos", "fraud", "bad", "default", "churn", "churned")
_NO = ("0", "false", "f", "no", "n", "negative", "neg", "legit", "good", "none")
_SHOWN = 5
_LISTED = 10
"""Values from which on they may be the first few of many."""


def feature_remedy(kind: pa.DataType, declared: FeatureType) -> str:
    """Return what makes a feature of a column of this Arrow type, which the declared type cannot hold."""
    if (derived := derivation(kind)) is not None:
        return f"{derived}, {_LEAVE_OUT}"
    if (plain := _plain(kind)) is not None:
        return f"write the column as plain {plain} values, {_LEAVE_OUT}"
    if declared is FeatureType.CATEGORY:
        return "declare the feature as a number, or, if its values are codes, write them as integers or strings"
    if declared is FeatureType.TEXT:
        return "declare the feature as a number or a category, or write the column as strings"
    if declared is FeatureType.BOOLEAN:
        return "write true and false (or 1 and 0) instead, or declare the feature as a category"
    return "convert the column to numbers, or declare the feature as a category"


def derivation(kind: pa.DataType) -> str | None:
    """Return what to derive from values that are neither numbers, words nor truth values; None for any other."""
    if pa.types.is_timestamp(kind):
        return 'derive features of other names from it (derive = "hour", "weekday" or "age_days")'
    if pa.types.is_date(kind):
        return 'derive features of other names from it (derive = "weekday", "month" or "age_days")'
    if pa.types.is_time(kind):
        return "derive a number from it, such as the hour or the seconds since midnight"
    if pa.types.is_duration(kind) or pa.types.is_interval(kind):
        return "write it as a number, such as seconds or days"
    if pa.types.is_struct(kind):
        return f"write its fields ({_fields(kind)}) as columns of their own"
    if pa.types.is_map(kind):
        return "write the values of the keys that matter as columns of their own"
    if pa.types.is_nested(kind):
        return "derive numbers from it, such as its length, or write its elements as columns of their own"
    if _binary(kind):
        return "decode it to strings or numbers"
    return None


def label_remedy(values: Sequence[object]) -> str:
    """Return how a label with these different values (all, or the first few of many) becomes one of a use case.

    Args:
        values: text, truth values or numbers, none missing.
    """
    if len(values) == 2:
        negative, positive, sure = ordered_pair(values)
        recoded = f"write 1 for {_quoted(positive)} and 0 for {_quoted(negative)}"
        declared = f"task = {{ positive = {toml_value(positive)}, negative = {toml_value(negative)} }}"
        return f"{recoded}{'' if sure else ', or the other way round'}; or declare {declared}"
    others = "write 1 for what is to be predicted and 0 for the rest"
    if {0, 1} < set(values):
        others = f"remove the other rows, or {others}"
    return f"{others}, or name another label; or declare {_declared(values)}"


def _declared(values: Sequence[object]) -> str:
    """Return how more or less than two values are declared as classes, or as numbers."""
    listed = ", ".join(toml_value(value) for value in values) if 3 <= len(values) < _LISTED else "..."
    if any(isinstance(value, str) for value in values):
        return f'task = {{ kind = "multiclass", classes = [{listed}] }}'
    return 'task = { kind = "regression" }, or kind = "multiclass" with classes'


def number_remedy(kind: pa.DataType) -> str:
    """Return what makes a label of a column of this Arrow type, of which numbers are expected."""
    if is_text(kind) or pa.types.is_dictionary(kind):
        return 'convert the column to numbers, or declare task = { kind = "multiclass", classes = [...] }'
    if (derived := derivation(kind)) is not None:
        return f"{derived} and name that as the label"
    return "convert the column to numbers, or name another label"


def ordered_pair(values: Sequence[Value]) -> tuple[Value, Value, bool]:
    """Return two labels, the negative and the positive one, and whether they are known to be that by what they say."""
    zero, one = sorted(values, key=_likelihood)
    return zero, one, _likelihood(zero) < 0 < _likelihood(one)


def label_type_remedy(kind: pa.DataType) -> str:
    """Return what makes a label of a column of this Arrow type, which holds neither numbers, words nor truth values."""
    if pa.types.is_temporal(kind):
        return "write 1 where it tells what is to be predicted (e.g. where it is set) and 0 elsewhere, in a new column"
    return "write 1 for what is to be predicted and 0 for the rest in a new column, or name another label"


def shown(values: Sequence[object]) -> str:
    """Return the first values for a message."""
    more = ", ..." if len(values) > _SHOWN else ""
    return ", ".join(_quoted(value) for value in values[:_SHOWN]) + more


def key_remedy(kind: pa.DataType) -> str:
    """Return what makes an entity or a key of a column of this Arrow type."""
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "write it as integers or strings, so that a key is spelled in one way only"
    if pa.types.is_struct(kind):
        return f"write one of its fields ({_fields(kind)}) as a column of its own, or join them into one string"
    if _binary(kind):
        return "write it as a string, e.g. in hexadecimal"
    return "write it as a string, or name another column"


def event_time_remedy(kind: pa.DataType) -> str:
    """Return what makes an event time of a column of this Arrow type."""
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "write it as whole seconds or milliseconds since 1970, or as timestamps"
    if pa.types.is_time(kind):
        return "a time of day has no date: write date and time together as a timestamp"
    if pa.types.is_duration(kind):
        return "a duration has no beginning: add it to the moment that it counts from"
    if pa.types.is_struct(kind):
        return f"write the field with the time ({_fields(kind)}) as a column of its own"
    return "name the column that holds the time, or write it as timestamps"


def _plain(kind: pa.DataType) -> pa.DataType | None:
    """Return the type of the values within an encoding that is not read; None where there is none."""
    if pa.types.is_string_view(kind):
        return pa.string()
    wrapped = pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind)
    # Words are read as a category by dictionary as well.
    return kind.value_type if wrapped and not pa.types.is_string(kind.value_type) else None


def _binary(kind: pa.DataType) -> bool:
    sized = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return sized or pa.types.is_binary_view(kind)


def _fields(kind: pa.DataType) -> str:
    names = [kind.field(i).name for i in range(kind.num_fields)]
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _likelihood(value: object) -> float:
    """Rank a value by whether it is what is to be predicted: a number by its size, a word as 1, -1 or 0."""
    if isinstance(value, (int, float)):
        return value
    word = str(value).strip().lower()
    return 1 if word in _YES else -1 if word in _NO else 0


def _quoted(value: object) -> str:
    if isinstance(value, str):
        return f"'{value:.40}'"
    return f"{value:g}" if isinstance(value, float) else f"{value!s:.40}"
