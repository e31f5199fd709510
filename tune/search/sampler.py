"""Where the parameters of a trial come from: Optuna's TPE, which learns from ended trials, or chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from data.schema.search import Range
from tune.search.space import Params, bounds
from tune.search.trial import Trial


class SamplerName(str, Enum):
    """The samplers that the command line offers."""

    TPE = "tpe"
    """Tree-structured Parzen estimator."""
    RANDOM = "random"
    """Every trial independent of all others."""


_SAMPLERS: dict[SamplerName, Callable[[int], optuna.samplers.BaseSampler]] = {
    SamplerName.TPE: lambda seed: optuna.samplers.TPESampler(seed=seed),
    SamplerName.RANDOM: lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


class Sampler:
    """Draws the parameters of trials in the order of their numbers, by a sampler of Optuna.

    What `ask` returns depends on the seed, the number, and which trials were told before (by chance: not on these): on
    nothing else, so that a resumed search goes on as an unbroken one. A trial stopped early counts as Optuna's own
    pruned ones do.
    """

    def __init__(self, name: SamplerName, space: Mapping[str, Range], seed: int) -> None:
        self._make, self._seed = _SAMPLERS[name], seed
        self._distributions = {name: distribution(space[name]) for name in sorted(space)}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(direction="maximize", sampler=self._fresh(0))
        self._asked: dict[int, optuna.Trial] = {}

    def ask(self, number: int) -> Params:
        """The parameters of trial `number`; trials that were asked for and not told are under way."""
        # A random state of its own for each trial: what was drawn before an interruption need not be drawn again.
        self._study.sampler = self._fresh(number)
        self._asked[number] = self._study.ask(self._distributions)
        return dict(self._asked[number].params)

    def replay(self, number: int, params: Params) -> None:
        """Stand in for `ask` with what it returned before the interruption."""
        self._study.enqueue_trial(params)
        self._asked[number] = self._study.ask(self._distributions)

    def tell(self, trial: Trial) -> None:
        """Take an ended trial into account."""
        asked = self._asked.pop(trial.number)
        if trial.stopped_early:
            asked.report(trial.score, len(trial.history))
            self._study.tell(asked, state=optuna.trial.TrialState.PRUNED)
        else:
            self._study.tell(asked, trial.score)

    def _fresh(self, number: int) -> optuna.samplers.BaseSampler:
        (state,) = np.random.SeedSequence([self._seed, number]).generate_state(1)
        return self._make(int(state))


def distribution(declared: Range) -> BaseDistribution:
    """A declared range in Optuna's words."""
    if declared.choices is not None:
        return CategoricalDistribution(declared.choices)
    low, high = bounds(declared)
    if declared.integer:
        return IntDistribution(math.ceil(low), math.floor(high), log=declared.log)
    return FloatDistribution(low, high, log=declared.log)
