"""The trial scheduler: which trial runs next and with which parameters, independent of how fast workers are.

Trial n is planned from the results of exactly the trials 0 to n - `lag`. So a search has the same trials however long
each takes, and after an interruption.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tune.search.asha import Bars, SuccessiveHalving
from tune.search.sampler import Sampler
from tune.search.space import Params
from tune.search.trial import Trial


class Assignment(NamedTuple):
    """A trial to run: its number, its parameters, and the scores that it must reach."""

    number: int
    params: Params
    bars: Bars


class TrialScheduler:
    """Plans the trials 0 to `trials` - 1 in order.

    Args:
        sampler: source of parameters.
        max_rounds: most boosting rounds of a trial.
        trials: number of trials.
        lag: most trials under way at once; with 1 each is planned from all before it.
        finished: trials of an interrupted search, in any order.
    """

    def __init__(self, sampler: Sampler, max_rounds: int, trials: int, lag: int, finished: Iterable[Trial]) -> None:
        self._sampler, self._halving = sampler, SuccessiveHalving(max_rounds)
        self._trials, self._lag = trials, lag
        self._ended = {trial.number: trial for trial in finished if trial.number < trials}
        self._next = self._told = 0

    @property
    def exhausted(self) -> bool:
        """Whether every trial has been planned."""
        self._pass_over_ended()
        return self._next >= self._trials

    def plan(self) -> Assignment | None:
        """Return the next trial, or None when all are planned or one that it depends on is under way."""
        if self.exhausted or not self._learn_up_to(self._next - self._lag):
            return None
        number = self._next
        self._next += 1
        return Assignment(number, self._sampler.ask(number), self._halving.bars())

    def end(self, trial: Trial) -> None:
        """Record a trial that has ended."""
        self._ended[trial.number] = trial

    def _pass_over_ended(self) -> None:
        while self._next in self._ended and self._learn_up_to(self._next - self._lag):
            self._sampler.replay(self._next, self._ended[self._next].params)
            self._next += 1

    def _learn_up_to(self, number: int) -> bool:
        while self._told <= number:
            if self._told not in self._ended:
                return False
            self._sampler.tell(self._ended[self._told])
            self._halving.tell(self._ended[self._told])
            self._told += 1
        return True
