"""The split of a use case's rows, as it is declared."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from data.schema.model_policy import PolicyTable


class Split(PolicyTable):
    """How rows are divided into those to learn from (by folds, or train and validation) and holdout (touched once)."""

    strategy: Literal["time", "random", "entity"] | None = None
    """Default: by time when `event_time` is declared, else at random. "entity" keeps an entity's rows together. By each
    of them the rows of one list of a ranking stay together."""
    validation: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    """Share of the rows that one split judges trials on; with folds all but the holdout serve for both."""
    holdout: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    folds: Annotated[int, Field(ge=1, le=20)] | None = None
    """Folds of the search; 1 is one split. Default: 5 up to 200,000 rows without the holdout, 1 beyond."""
    seed: int = 0
