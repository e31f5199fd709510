"""Removes file paths, URLs, hosts and IP addresses from texts that are shown in public."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_LOCATIONS = re.compile(
    r"[a-zA-Z][\w+.-]*://[^\s'\",;)]+"  # addresses
    r"|(?<![\w./])(?:~|\.{1,2})?(?:/[\w.@+=-]+)+/?"  # paths
    r"|\bhost='[^']*'|\b[a-zA-Z][\w-]*(?:\.[\w-]+)*:\d{3,5}\b"
    r"|(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?![\w.])"
)
_REPLACEMENT = "[…]"


def redacted(value: Any) -> Any:
    """Return plain JSON with each location in its texts replaced by `[…]`; keys stay as they are."""
    if isinstance(value, str):
        return _LOCATIONS.sub(_REPLACEMENT, value)
    if isinstance(value, Mapping):
        return {key: redacted(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(each) for each in value]
    return value
