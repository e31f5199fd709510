"""Texts that anybody may read: file paths, addresses and hosts are taken out of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PLACES = re.compile(
    r"[a-zA-Z][\w+.-]*://[^\s'\",;)]+"  # addresses
    r"|(?<![\w./])(?:~|\.{1,2})?(?:/[\w.@+=-]+)+/?"  # paths
    r"|\bhost='[^']*'|\b[a-zA-Z][\w-]*(?:\.[\w-]+)*:\d{3,5}\b"
    r"|(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?![\w.])"
)
_INSTEAD = "[…]"


def redacted(value: Any) -> Any:
    """Plain JSON with the places taken out of all its texts; keys stay as they are."""
    if isinstance(value, str):
        return _PLACES.sub(_INSTEAD, value)
    if isinstance(value, Mapping):
        return {key: redacted(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(each) for each in value]
    return value
