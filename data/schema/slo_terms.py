"""Objectives as people write them: `p99=5ms,errors=0.1%`. One grammar; who reads says which names it knows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from data.errors import ConfigError
from data.schema.duration import parse_duration

ANY_PERCENTILE = "pN"
"""Stands among the names for every percentile, such as p99 or p99.9."""

_PERCENTILE = re.compile(r"p[0-9]+(\.[0-9]+)?")
_NUMBER = re.compile(r"([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?")


class ValueKind(Enum):
    """What a value can be; each stands for the words that an error uses."""

    TIME = "a time with its unit such as 800us or 5ms"
    COUNT = "a whole number"
    NUMBER = "a number"
    PERCENT = "a percentage such as 0.1%"
    FACTOR = "a factor such as 2x"
    OFF = "'off'"


class SloTerm(NamedTuple):
    """One term. `value` is in s for a time, a share for a percentage, NaN for off."""

    text: str
    name: str
    kind: ValueKind
    value: float


def parse_terms(text: str, takes: Mapping[str, tuple[ValueKind, ...]], example: str) -> list[SloTerm]:
    """Read terms separated by commas.

    Args:
        text: what was given to `--slo`.
        takes: the names there are, with the kinds of value that each takes; of two that fit the first.
        example: shown in errors.

    Raises:
        ConfigError: an unknown name, a value of another kind, or a name that is given twice.
    """
    terms = [_term(part.strip(), takes, example) for part in text.split(",")]
    names = [term.name for term in terms]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--slo {text}: {name} is given twice")
    return terms


def _term(text: str, takes: Mapping[str, tuple[ValueKind, ...]], example: str) -> SloTerm:
    name, _, value = (part.strip() for part in text.partition("="))
    kinds = takes.get(name) or (takes.get(ANY_PERCENTILE) if _PERCENTILE.fullmatch(name) else None)
    if kinds is None:
        raise ConfigError(f"--slo {text}: '{name}' is none of {', '.join(takes)}; write for example {example}")
    for kind in kinds:
        found = _read(kind, value)
        if found is not None:
            return SloTerm(text, name, kind, found)
    expected = " or ".join(kind.value for kind in kinds)
    raise ConfigError(f"--slo {text}: {name} needs {expected}; write for example {example}")


def _read(kind: ValueKind, value: str) -> float | None:
    """The value, or None when it is of another kind."""
    if kind is ValueKind.TIME:
        try:
            return parse_duration(value)
        except ConfigError:
            return None
    if kind is ValueKind.OFF:
        return math.nan if value == "off" else None
    if kind is ValueKind.COUNT:
        return float(value) if re.fullmatch("[0-9]+", value) else None
    sign, divisor = {ValueKind.NUMBER: ("", 1), ValueKind.PERCENT: ("%", 100), ValueKind.FACTOR: ("x", 1)}[kind]
    number = value.removesuffix(sign)
    return float(number) / divisor if value.endswith(sign) and _NUMBER.fullmatch(number) else None
