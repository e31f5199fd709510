"""Early stopping across trials: asynchronous successive halving (ASHA), judged where the trial runs.

What a trial must reach at a rung follows from trials that have ended before it was planned. So the bar can travel
with its parameters, the worker judges alone, and the verdict does not depend on who was faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from tune.search.trial import Trial

Bars = dict[int, float]
"""By round: the metric below which a trial is stopped there."""

_REDUCTION = 3
_FIRST_RUNG_SHARE = 10
"""The first rung stands at this part of the rounds."""


class Boosted(Protocol):
    """What is advanced: `tune.training.boosting.Boosting`."""

    history: list[float]

    @property
    def finished(self) -> bool:
        """True when no further round is worth it or allowed."""
        ...

    def advance(self, rounds: int) -> None:
        """Boost up to so many more rounds."""


class SuccessiveHalving:
    """The rungs of one search. Li et al., "A System for Massively Parallel Hyperparameter Tuning" (2018), algorithm 2.

    A third of the trials that reach a rung goes on. Rungs stand at a tenth of `max_rounds` and at each third power
    from there.
    """

    def __init__(self, max_rounds: int) -> None:
        self._reached: dict[int, list[float]] = {rung: [] for rung in rungs(max_rounds)}

    def tell(self, trial: Trial) -> None:
        """Take an ended trial into account, at every rung that it reached."""
        for rung, scores in self._reached.items():
            if len(trial.history) >= rung:
                scores.append(max(trial.history[:rung]))

    def bars(self) -> Bars:
        """What the next trial has to reach; a rung where nobody has been yet has none."""
        share = 100 * (1 - 1 / _REDUCTION)
        return {rung: float(np.percentile(scores, share)) for rung, scores in self._reached.items() if scores}


def rungs(max_rounds: int) -> list[int]:
    """Rounds at which trials are compared, ascending."""
    found, rung = [], -(-max_rounds // _FIRST_RUNG_SHARE)
    while rung < max_rounds:
        found.append(rung)
        rung *= _REDUCTION
    return found


def climb(boosting: Boosted, bars: Mapping[int, float]) -> bool:
    """Boost to the end, or to the rung whose bar is not reached; returns True for the latter."""
    for rung, bar in _ascending(bars.items()):
        boosting.advance(rung - len(boosting.history))
        if boosting.finished:
            return False
        if max(boosting.history) < bar:
            return True
    while not boosting.finished:
        boosting.advance(_FIRST_RUNG_SHARE)
    return False


def _ascending(bars: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    return sorted(bars)
