"""What outputs of one number without a label have in common."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import model_validator

from data.schema.outputs.base_output import BaseOutput, check_edges


class NumberOutput(BaseOutput):
    """One number a row; two versions are compared by its distribution."""

    quantiles: tuple[float, ...]
    """29 quantiles of what was learned from, ascending and different: the edges of score histograms."""

    @model_validator(mode="after")
    def _ordered(self) -> NumberOutput:
        check_edges(self.quantiles)
        return self

    @property
    def width(self) -> int:
        """One."""
        return 1

    @property
    def labels(self) -> None:
        """None."""
        return

    @property
    def edges(self) -> tuple[float, ...]:
        """The quantiles."""
        return self.quantiles

    def code(self, scores: Sequence[float]) -> None:
        """None."""
        return

    def probability(self, scores: Sequence[float]) -> None:
        """None."""
        return

    def score(self, scores: Sequence[float]) -> float:
        """The number."""
        return scores[0]
