"""The interval around a predicted number, as wide as errors were of rows with predictions like it."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator


class PredictionInterval(BaseModel):
    """Where the true value lies, as often as `coverage` says.

    Its ends are the prediction plus an offset each, which is given at some predictions, linear between them, and the
    same beyond the first and the last.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    coverage: Annotated[float, Field(gt=0, lt=1)]
    """Share of the rows whose true value it holds, by rows that the fits had not learned from."""
    at: Annotated[tuple[float, ...], Field(min_length=1)]
    """The predictions at which offsets are given, ascending and different."""
    below: tuple[float, ...]
    """Of each the offset of the lower end."""
    above: tuple[float, ...]
    """The same of the upper end, which is not below it."""
    least: float | None = None
    """The least that a true value can be, where it is known: no end goes below it."""

    @model_validator(mode="after")
    def _ordered(self) -> PredictionInterval:
        if not len(self.at) == len(self.below) == len(self.above):
            raise ValueError("every prediction of `at` needs both offsets")
        if list(self.at) != sorted(set(self.at)):
            raise ValueError("`at` must be different numbers in order")
        if any(low > high for low, high in zip(self.below, self.above, strict=True)):
            raise ValueError("the lower end is above the upper end")
        return self

    @property
    def offsets(self) -> tuple[float, float, float, float]:
        """The lower end's least and greatest offset, then those of the upper end."""
        return min(self.below), max(self.below), min(self.above), max(self.above)

    def ends(self, value: float) -> tuple[float, float]:
        """Return the ends for one prediction."""
        low, high = self.all_ends(np.array([value]))
        return float(low[0]), float(high[0])

    def all_ends(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and the upper ends for n predictions, each float64 of shape (n,)."""
        values = values.astype(np.float64)
        low, high = (values + np.interp(values, self.at, each) for each in (self.below, self.above))
        return (low, high) if self.least is None else (np.maximum(low, self.least), np.maximum(high, self.least))
