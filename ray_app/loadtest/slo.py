"""Service level objective: what a load test is judged against."""

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
    """One term: `bound` is in s for a percentile; for errors a count, or a share of all requests."""

    text: str
    name: str
    bound: float
    is_share: bool = False

    def measured(self, latencies_s: Mapping[str, float], errors: int, requests: int) -> float:
        """The measured figure, in the unit of the bound."""
        if self.name != ERRORS:
            return latencies_s[self.name]
        return errors / max(requests, 1) if self.is_share else float(errors)

    def held(self, latencies_s: Mapping[str, float], errors: int, requests: int) -> bool:
        """True when the figure is at most the bound; a percentile of no answers (NaN) holds nothing."""
        return self.measured(latencies_s, errors, requests) <= self.bound


def parse_slo(text: str) -> tuple[Objective, ...]:
    """Read terms such as `p99=5ms,errors=0`.

    Raises:
        ConfigError: an unknown name, a bound without unit, a name twice, or nothing at all.
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
        found = re.fullmatch(_NUMBER + "(%?)", bound)
        if not found or (not found[2] and "." in found[1]):
            raise ConfigError(f"--slo {text}: errors need a whole number or a percentage; {_FORM}")
        return Objective(text, name, float(found[1]) / (100 if found[2] else 1), bool(found[2]))
    if name not in QUANTILES:
        raise ConfigError(f"--slo {text}: '{name}' is none of {', '.join(QUANTILES)}, {ERRORS}; {_FORM}")
    found = re.fullmatch(_NUMBER + r"\s*(us|ms|s)", bound)
    if not found:
        raise ConfigError(f"--slo {text}: {name} needs a time with its unit us, ms or s; {_FORM}")
    return Objective(text, name, float(found[1]) * _UNITS[found[2]])
