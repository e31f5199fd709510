"""Two labels: what a model answers, and how its numbers are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from data.schema.features.feature import Scalar
from data.schema.outputs.base_output import (
    LOGIT_EDGES,
    PROBABILITY,
    BaseOutput,
    label_schema,
    labels_of,
)


class BinaryOutput(BaseOutput):
    """The probability of the positive label, and the label by a threshold."""

    kind: Literal["binary"] = "binary"
    classes: tuple[Scalar, Scalar] = (0, 1)
    """The negative, then the positive label."""
    threshold: Annotated[float, Field(ge=0, le=1)]
    """Rows with a probability of at least this have the positive label."""

    @property
    def marks(self) -> str:
        """The positive label."""
        return f"labelled {self.classes[1]}"

    @property
    def words(self) -> str:
        """From which probability on the label is the positive one."""
        return f"the label is {self.classes[1]} from a probability of {self.threshold:.4g} on"

    @property
    def width(self) -> int:
        """One: the probability."""
        return 1

    @property
    def labels(self) -> tuple[Scalar, Scalar]:
        """The negative, then the positive label."""
        return self.classes

    @property
    def edges(self) -> tuple[float, ...]:
        """As `LOGIT_EDGES`."""
        return LOGIT_EDGES

    @property
    def fitted(self) -> dict[str, float]:
        """The threshold."""
        return {"threshold": self.threshold}

    def read(self, fields: Mapping[str, Any]) -> list[float]:
        """The probability."""
        return [float(fields["probability"])]

    def fields(self, scores: Sequence[float]) -> dict[str, Any]:
        """`probability`, and `label`."""
        return {"probability": scores[0], "label": self.classes[scores[0] >= self.threshold]}

    def field_schemas(self) -> dict[str, dict[str, Any]]:
        """As `BaseOutput.field_schemas`."""
        positive = self.classes[1]
        return {
            "probability": {**PROBABILITY, "description": f"Probability of the label {positive}"},
            "label": label_schema(self.classes, f"{positive} from the model's threshold on"),
        }

    def columns(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """As `BaseOutput.columns`."""
        # Compare in float64, as `fields` does: in float32 a score at the threshold could get another label.
        codes = (scores[:, 0].astype(np.float64) >= self.threshold).astype(np.int8)
        return {"probability": scores[:, 0], "label": labels_of(self.classes, codes)}

    def code(self, scores: Sequence[float]) -> int:
        """0 for the negative label, 1 for the positive one."""
        return int(scores[0] >= self.threshold)

    def marked(self, code: int | None) -> bool:
        """Whether it is the positive label."""
        return code == 1

    def probability(self, scores: Sequence[float]) -> float:
        """That of the positive label."""
        return scores[0]

    def score(self, scores: Sequence[float]) -> float:
        """The probability."""
        return scores[0]
