"""A place in a list: what a model answers, and how its numbers are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from data.schema.outputs.number_output import NumberOutput


class RankingOutput(NumberOutput):
    """A score, by which the items of a list are ordered, the largest first; its size says nothing beyond that."""

    kind: Literal["ranking"] = "ranking"
    at: Annotated[int, Field(ge=1)] = 10
    """How many items from the top the model's figures count."""

    @property
    def words(self) -> str:
        """What the score is good for."""
        return "the score orders the items that are sent together, the best first, and is no probability"

    def read(self, fields: Mapping[str, Any]) -> list[float]:
        """The score."""
        return [float(fields["score"])]

    def fields(self, scores: Sequence[float]) -> dict[str, Any]:
        """`score`."""
        return {"score": scores[0]}

    def field_schemas(self) -> dict[str, dict[str, Any]]:
        """As `BaseOutput.field_schemas`."""
        return {"score": {"type": "number", "description": "Larger is better; compare it within one list only"}}

    def ranked(self, answers: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
        """`rank`: 1 for the largest score; of equal ones the first in the request is the better."""
        ranks = [0] * len(answers)
        for rank, at in enumerate(sorted(range(len(answers)), key=lambda at: -answers[at][0]), 1):
            ranks[at] = rank
        return [{"rank": rank} for rank in ranks]

    def ranked_schemas(self) -> dict[str, dict[str, Any]]:
        """As `BaseOutput.ranked_schemas`."""
        about = "1 for the best of the items of the request that were answered"
        return {"rank": {"type": "integer", "minimum": 1, "description": about}}

    def columns(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """`score`; a list's rows may be parts apart, so ranks are left to who has them all."""
        return {"score": scores[:, 0]}
