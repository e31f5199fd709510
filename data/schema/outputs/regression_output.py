"""A number: what a model answers, and how its numbers are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from data.schema.outputs.number_output import NumberOutput
from data.schema.prediction_interval import PredictionInterval


class RegressionOutput(NumberOutput):
    """A number, and the interval around it."""

    kind: Literal["regression"] = "regression"
    interval: PredictionInterval
    """Where the true value lies."""

    @property
    def words(self) -> str:
        """What the interval holds."""
        return f"the interval holds the true value for {self.interval.coverage:.0%} of the rows"

    @property
    def fitted(self) -> dict[str, float]:
        """The interval's coverage."""
        return {"interval_coverage": self.interval.coverage}

    def read(self, fields: Mapping[str, Any]) -> list[float]:
        """The prediction."""
        return [float(fields["prediction"])]

    def fields(self, scores: Sequence[float]) -> dict[str, Any]:
        """`prediction`, and `interval` as an array of two numbers."""
        return {"prediction": scores[0], "interval": list(self.interval.ends(scores[0]))}

    def field_schemas(self) -> dict[str, dict[str, Any]]:
        """As `BaseOutput.field_schemas`."""
        about = f"Holds the true value for {self.interval.coverage:.0%} of the rows"
        interval = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2, "description": about}
        return {"prediction": {"type": "number"}, "interval": interval}

    def columns(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """`prediction`, `interval_low` and `interval_high`, the latter float64."""
        low, high = self.interval.all_ends(scores[:, 0])
        return {"prediction": scores[:, 0], "interval_low": low, "interval_high": high}
