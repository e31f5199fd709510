"""Durations as people write them: `90s`, `10m`, `1h30m`, `5ms`. One grammar for files, options and what is shown."""

from __future__ import annotations

import re
from decimal import Decimal

from data.errors import ConfigError

_MICROSECONDS = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1000, "us": 1}
# Digits are bounded, so that no text however long becomes infinite.
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)\s*(us|ms|s|m|h|d)")


def parse_duration(text: str) -> float:
    """Seconds of a duration: numbers with the units us, ms, s, m, h and d, one after the other.

    Raises:
        ConfigError: the text is something else.
    """
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text).strip():
        raise ConfigError(f"'{text}' is not a duration such as '30d', '12h', '1h30m', '90s' or '5ms'")
    # Decimal, so that "1.1s" and "1100ms" are the same number.
    return float(sum(Decimal(number) * _MICROSECONDS[unit] for number, unit in parts) / 1_000_000)


def format_duration(seconds: float, units: int = len(_MICROSECONDS)) -> str:
    """Write a duration, to the microsecond, as `parse_duration` reads it.

    Args:
        seconds: how long; one below 0 gets a minus sign, which is for people only.
        units: shows at most so many units, counted from the largest; what is smaller is cut off.
    """
    left, parts = round(abs(seconds) * 1_000_000), []
    for unit, size in _MICROSECONDS.items():
        count, rest = divmod(left, size)
        if count and units > 0:
            parts.append(f"{count}{unit}")
        if parts:
            units -= 1
        left = rest
    return ("-" if seconds < 0 and parts else "") + ("".join(parts) or "0s")
