"""Service level objectives that a load test is judged by, and their text form, such as `p99=5ms,errors=0`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from data.errors import ConfigError
from ray_app.loadtest.percentiles import QUANTILES

ERRORS = "errors"
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_NUMBER = r"(\d+(?:\.\d+)?)"
_FORM = "write for example p99=5ms,errors=0 or p50=800us,p99.9=0.1s,errors=0.1%"


class Objective(NamedTuple):
    """One objective: an upper bound for a latency percentile or for errors.

    `text` is the term as written; `name` a percentile or "errors". `bound` is in s for a percentile; for errors a
    number, or with `is_share` a share (0 to 1) of all requests.
    """

    text: str
    name: str
    bound: float
    is_share: bool = False

    def measured(self, latencies_s: Mapping[str, float], errors: int, requests: int) -> float:
        """The measured value, in the unit of the bound; NaN for a percentile without requests."""
        if self.name != ERRORS:
            return latencies_s[self.name]
        return errors / max(requests, 1) if self.is_share else float(errors)

    def held(self, latencies_s: Mapping[str, float], errors: int, requests: int) -> bool:
        """True when the measured value is at most the bound; never for NaN, a percentile without requests."""
        return self.measured(latencies_s, errors, requests) <= self.bound


def parse_slo(text: str) -> tuple[Objective, ...]:
    """Parse objectives such as `p99=5ms,errors=0`.

    Raises:
        ConfigError: an unknown name, a bound without a unit, a name given twice, or an empty text.
    """
    terms = tuple(_term(part.strip()) for part in text.split(","))
    names = [term.name for term in terms]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--slo {text}: {name} is given twice")
    return terms


def _term(text: str) -> Objective:
    name, _, bound = (part.strip() for part in text.partition("="))
    if name == ERRORS:
        match = re.fullmatch(_NUMBER + "(%?)", bound)
        if not match or (not match[2] and "." in match[1]):
            raise ConfigError(f"--slo {text}: errors need a whole number or a percentage; {_FORM}")
        return Objective(text, name, float(match[1]) / (100 if match[2] else 1), bool(match[2]))
    if name not in QUANTILES:
        raise ConfigError(f"--slo {text}: '{name}' is none of {', '.join(QUANTILES)}, {ERRORS}; {_FORM}")
    match = re.fullmatch(_NUMBER + r"\s*(us|ms|s)", bound)
    if not match:
        raise ConfigError(f"--slo {text}: {name} needs a time with its unit us, ms or s; {_FORM}")
    return Objective(text, name, float(match[1]) * _UNITS[match[2]])
