"""TOML text: strings and values as they are written into a use-case file."""

from __future__ import annotations

import json


def quoted(text: str) -> str:
    """Quote text as a TOML basic string."""
    # JSON's escapes are valid in TOML; only DEL, which JSON leaves as it is, TOML forbids.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_value(value: object) -> str:
    """Return text, a truth value or a finite number as TOML; a number without a fraction as a whole one."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    number = float(value)  # type: ignore[arg-type]
    return str(int(value)) if number == int(number) else repr(number)  # type: ignore[call-overload]
