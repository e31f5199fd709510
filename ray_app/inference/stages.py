"""The two stages behind the gateway, feature fetch and model, as the inference path sees them.

Each is local or at the far end of a transport: `feature_fetch.py` and `model_scoring.py` have both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np


class FeatureStage(Protocol):
    """Reads the online store."""

    async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Return packed rows, same length and order as `entities`; None where there is none.

        Args:
            entities: keys to read.
            timeout_s: time that the callers have left; a stage may allow itself less.

        Raises:
            StoreUnavailable: the store did not answer; predictions go on without online values.
        """
        ...


class ModelStage(Protocol):
    """Scores encoded rows."""

    async def score(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Return probabilities, float32 of shape (n,), for float32 of shape (n, k).

        Args:
            matrix: encoded rows.
            timeout_s: time that the callers have left; a stage may allow itself less.

        Raises:
            VersionUnavailable: no replica that answers holds the bundle.
            Overloaded: no replica can be reached.
            DeadlineExceeded: none answered in time.
        """
        ...
