"""Mistakes in a TOML file: each in one line, with the key, where it stands and what was expected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence

from data.errors import Fault


def explain(fault: Fault, text: str, known_keys: Callable[[Sequence[str]], Sequence[str]]) -> str:
    """Return one line on a fault: the key's path and line in the file, and what was expected.

    Args:
        fault: what is wrong.
        text: the file.
        known_keys: returns the keys that belong where the last of a path stands.
    """
    message = fault.reason
    if fault.kind == "extra_forbidden":
        known = known_keys(fault.path)
        near = difflib.get_close_matches(fault.path[-1], known, n=1)
        message = f"unknown key; did you mean '{near[0]}'?" if near else f"unknown key; known: {', '.join(known)}"
    elif fault.kind == "missing":
        message = "is required"
    line = _line_of(fault.path, text)
    place = fault.place + (f" (line {line})" if line else "")
    return f"{place}: {message}" if place else message


def _line_of(path: Sequence[str], text: str) -> int | None:
    """Best guess at the line that declares the deepest key of `path` which the text mentions."""
    start, found = 0, None
    lines = text.splitlines()
    for key in path:
        pattern = re.compile(rf"""(^|[\[.{{,\s"'])({re.escape(key)})["']?\s*(=|\]|\.)""")
        hit = next((i for i in range(start, len(lines)) if pattern.search(lines[i])), None)
        if hit is None:
            break
        start = found = hit
    return None if found is None else found + 1
