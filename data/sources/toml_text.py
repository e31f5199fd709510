"""TOML text: strings and values as they are written into a use-case file."""

from __future__ import annotations

import json
from decimal import Decimal
from numbers import Integral


def quoted(text: str) -> str:
    """Quote text as a TOML basic string."""
    # JSON's escapes are valid in TOML; only DEL, which JSON leaves as it is, TOML forbids.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_value(value: object) -> str:
    """Return a value as TOML; a number without a fraction as a whole one, and what is no number as its text."""
    if isinstance(value, bool):
        return str(value).lower()
    # Whole numbers never by way of a float, which has but 53 bits: a label of 64 bits would become another.
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value.normalize():f}"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(float(value))
    return quoted(str(value))
