"""What happened to each request of a load test."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

PENDING, TIMEOUT, REFUSED, RESET, MALFORMED = 0, -1, -2, -3, -4
"""Outcomes beside HTTP statuses: not over, no answer in time, no connection, connection lost, not HTTP."""

_NAMES = {TIMEOUT: "timeout", REFUSED: "refused", RESET: "reset", MALFORMED: "malformed"}


def kind_of(outcome: int) -> str:
    """`2xx` to `5xx` for a status, else the word for how a request failed."""
    return _NAMES.get(outcome) or f"{outcome // 100}xx"


class Samples:
    """One entry a request, in the order of their due times. Times are s from the start of measuring.

    Args:
        due: when each request is due, ascending; those before 0 are warm-up.
    """

    def __init__(self, due: np.ndarray) -> None:
        self.due = due
        self.lateness = np.full(len(due), np.nan)
        """From due to picked up by the generator: the generator's own delay, in s; NaN before it."""
        self.latency = np.full(len(due), np.nan)
        """From due to the end of the answer or the failure, in s; NaN before it."""
        self.outcome = np.zeros(len(due), np.int16)
        """HTTP status, or one of the module's outcomes."""
        self.limit_s = 0.0
        """Time limit of a request, set by the run that sends them."""

    def measured(self) -> Measured:
        """The requests that are over, without warm-up."""
        over = (self.due >= 0) & (self.outcome != PENDING)
        return Measured(self.due[over], self.lateness[over], self.latency[over], self.outcome[over], self.limit_s)

    @property
    def unfinished(self) -> int:
        """Requests that were sent and are not over, without warm-up."""
        return int(((self.due >= 0) & (self.outcome == PENDING) & ~np.isnan(self.lateness)).sum())


class Measured(NamedTuple):
    """Columns of the requests that are over; units as in Samples."""

    due: np.ndarray
    lateness: np.ndarray
    latency: np.ndarray
    outcome: np.ndarray
    limit_s: float

    @property
    def good(self) -> np.ndarray:
        """True for each request answered with 2xx."""
        return self.outcome // 100 == 2

    def judged(self, times: np.ndarray) -> np.ndarray:
        """Times of all requests as the percentiles have them: one that failed counts with no less than the time limit.

        It never got its answer. To leave it out would make a stalled server look fast, and a quick 503 as it is would
        make a full one look fast.
        """
        return np.where(self.good, times, np.maximum(times, self.limit_s))

    def kinds(self) -> dict[str, int]:
        """Requests by kind of outcome, most frequent first."""
        return dict(Counter(kind_of(outcome) for outcome in self.outcome.tolist()).most_common())

    def statuses(self) -> dict[str, int]:
        """Answers by HTTP status, in order."""
        found = Counter(outcome for outcome in self.outcome.tolist() if outcome > 0)
        return {str(status): found[status] for status in sorted(found)}
