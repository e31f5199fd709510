"""Service level objectives that a load test is judged by, and their text form, such as `p99=5ms,errors=0`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from data.schema.slo_terms import ValueKind, parse_terms
from ray_app.loadtest.percentiles import QUANTILES

ERRORS = "errors"
_TAKES = {**dict.fromkeys(QUANTILES, (ValueKind.TIME,)), ERRORS: (ValueKind.COUNT, ValueKind.PERCENT)}
_EXAMPLE = "p99=5ms,errors=0 or p50=800us,p99.9=0.1s,errors=0.1%"


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
    terms = parse_terms(text, _TAKES, _EXAMPLE)
    return tuple(Objective(each.text, each.name, each.value, each.kind is ValueKind.PERCENT) for each in terms)
