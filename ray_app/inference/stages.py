"""The interfaces of the two stages that the inference pipeline calls: feature fetch and model.

`feature_fetch.py` and `model_scoring.py` each implement one, in this process and over a transport.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from data.errors import StoreUnavailable
from data.event_store import EventOutcome, RowQuery
from data.feature_views.events.event import Event
from ray_app.prediction import RowWindows


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


class FetchedRows(NamedTuple):
    """What the feature stage answers for a micro-batch of a model with windows; each store may fail by itself."""

    stored: Sequence[bytes | None] | StoreUnavailable
    """One packed row per entity."""
    windows: Sequence[RowWindows] | StoreUnavailable
    """One per query. When it failed, what was recorded is not known; asking again is safe."""


@runtime_checkable
class WindowStage(FeatureStage, Protocol):
    """Reads the online store and the event store, and records events."""

    async def fetch_rows(
        self, entities: Sequence[str], queries: Sequence[RowQuery], timeout_s: float = math.inf
    ) -> FetchedRows:
        """Read packed rows as `fetch` does, record the rows that are events, and compute windows; all in one call.

        Args:
            entities: keys to read from the online store.
            queries: what the rows' windows need.
            timeout_s: seconds that the callers have left; a stage may have a shorter limit of its own.
        """
        ...

    async def record(self, source: str, events: Sequence[Event], timeout_s: float = math.inf) -> list[EventOutcome]:
        """Store n events of a source; returns what became of each, in order.

        Raises:
            StoreUnavailable: the store did not answer in time, or with an error; recording them again is safe.
        """
        ...


def window_stage(stage: FeatureStage | None) -> WindowStage | None:
    """Return the stage when it knows windows, else None."""
    return stage if isinstance(stage, WindowStage) else None


class ModelStage(Protocol):
    """Scores encoded rows."""

    async def score(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Return scores, float32 of shape (n, width of the model's output), for float32 of shape (n, k).

        Args:
            matrix: n encoded rows of k features.
            timeout_s: seconds that the callers have left; a stage may have a shorter limit of its own.

        Raises:
            VersionUnavailable: no replica that answers has loaded the version.
            Overloaded: no replica can be reached, or all are full.
            DeadlineExceeded: no replica answered in time.
        """
        ...
