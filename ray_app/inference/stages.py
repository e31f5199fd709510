"""The interfaces of the two stages that the inference pipeline calls: feature fetch and model.

`feature_fetch.py` and `model_scoring.py` each implement one, in this process and over a transport.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np


class FeatureStage(Protocol):
    """Reads the online store."""

    async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Return one packed row per entity, in order; None for an entity without a row.

        Args:
            entities: keys to read.
            timeout_s: seconds that the callers have left; a stage may have a shorter limit of its own.

        Raises:
            StoreUnavailable: the store did not answer in time, or with an error.
        """
        ...


class ModelStage(Protocol):
    """Scores encoded rows."""

    async def score(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Return probabilities, float32 of shape (n,), for float32 of shape (n, k).

        Args:
            matrix: n encoded rows of k features.
            timeout_s: seconds that the callers have left; a stage may have a shorter limit of its own.

        Raises:
            VersionUnavailable: no replica that answers has loaded the version.
            Overloaded: no replica can be reached, or all are full.
            DeadlineExceeded: no replica answered in time.
        """
        ...
