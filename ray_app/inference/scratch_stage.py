"""The feature stage over scratch stores: what a proof in time records and reads, beside what is live."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from data.errors import StoreUnavailable
from data.event_store import EventOutcome, RowQuery
from data.feature_views.events.event import Event
from ray_app.inference.stages import FeatureStage, FetchedRows, WindowStage


@runtime_checkable
class HasScratch(Protocol):
    """A feature stage that knows scratch stores."""

    async def scratch(self) -> WindowStage:
        """Return the stage over the scratch stores, which are opened when it is first asked for."""
        ...


class ScratchStage:
    """A `WindowStage` that asks the scratch side of another stage.

    Args:
        stage: the stage of live requests.
    """

    def __init__(self, stage: FeatureStage) -> None:
        self._live = stage

    async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Read packed rows of the scratch view; see `FeatureStage`."""
        return await (await self._stage()).fetch(entities, timeout_s)

    async def fetch_rows(
        self, entities: Sequence[str], queries: Sequence[RowQuery], timeout_s: float = math.inf
    ) -> FetchedRows:
        """Read both scratch stores, and record; see `WindowStage`."""
        return await (await self._stage()).fetch_rows(entities, queries, timeout_s)

    async def record(self, source: str, events: Sequence[Event], timeout_s: float = math.inf) -> list[EventOutcome]:
        """Store events in the scratch store; see `WindowStage`."""
        return await (await self._stage()).record(source, events, timeout_s)

    async def _stage(self) -> WindowStage:
        if not isinstance(self._live, HasScratch):
            raise StoreUnavailable("the feature stage has no scratch stores")
        return await self._live.scratch()


def scratch_stage(stage: FeatureStage | None) -> ScratchStage | None:
    """Return the scratch side of a stage; None where a model needs no stage."""
    return None if stage is None else ScratchStage(stage)
