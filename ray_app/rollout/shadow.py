"""Shadows in a gateway: rows that the champion answered are scored by the shadow versions afterwards, and compared.

Live rows come first: shadow rows wait while any live row waits, and are dropped when their queue is full.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from ray_app.inference.model_versions import LoadedVersion, ModelVersions, VersionsView
from ray_app.inference.observers import Answered, Failed
from ray_app.prediction import Row
from ray_app.rollout.shadow_comparison import ScoredRow, ShadowComparison
from tune.registry.traffic_rules import BUCKETS, bucket

logger = logging.getLogger(__name__)

_QUEUE_ROWS = 256
_BATCH_ROWS = 16
_YIELD_S = 0.002
_TIMEOUT_S = 2.0
_MOST_VERSIONS = 20


class _Mirrored(NamedTuple):
    version: str
    champion: str
    row: Answered


class Shadow:
    """An `Observer` that scores the champion's rows by the shadow versions too. Belongs to one event loop.

    Args:
        versions: the loaded versions of the gateway.
        queue_rows: most rows that wait to be scored.
    """

    def __init__(self, versions: ModelVersions, queue_rows: int = _QUEUE_ROWS) -> None:
        self._versions = versions
        self._queue: deque[_Mirrored] = deque()
        self._limit = queue_rows
        self._view: VersionsView | None = None
        self._shares: tuple[tuple[str, float], ...] = ()
        self._comparisons: dict[str, ShadowComparison] = {}
        self._task: asyncio.Task[None] | None = None

    def answered(self, rows: Sequence[Answered]) -> None:
        """Queue the champion's rows for each shadow whose share of the entities they belong to."""
        view = self._versions.view
        if view is not self._view:
            self._view = view
            self._shares = tuple((c.version, c.weight / 100 * BUCKETS) for c in view.rules.shadows if c.weight > 0)
        if not self._shares:
            return
        champion = view.champion.version
        for row in rows:
            if row.version == champion:
                self._mirror(row, champion)

    def failed(self, failure: Failed) -> None:
        """Do nothing: a failed request has no score to compare."""

    def report(self) -> dict[str, ShadowComparison]:
        """Return copies of the comparisons so far, by version."""
        return {version: each + ShadowComparison(each.against) for version, each in self._comparisons.items()}

    async def idle(self) -> None:
        """Wait until every queued row has been compared."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    def _mirror(self, row: Answered, champion: str) -> None:
        at = bucket(row.prediction.row.entity or row.request_id)
        for version, below in self._shares:
            if at >= below:
                continue
            if len(self._queue) >= self._limit:
                self._comparison(version, champion).dropped += 1
                continue
            self._queue.append(_Mirrored(version, champion, row))
            if self._task is None or self._task.done():
                # An empty context: the task outlives the request that happens to start it.
                self._task = contextvars.Context().run(asyncio.get_running_loop().create_task, self._drain())

    def _comparison(self, version: str, champion: str) -> ShadowComparison:
        comparison = self._comparisons.get(version)
        if comparison is None or comparison.against != champion:
            while len(self._comparisons) >= _MOST_VERSIONS:
                del self._comparisons[next(iter(self._comparisons))]
            comparison = self._comparisons[version] = ShadowComparison(champion)
        return comparison

    async def _drain(self) -> None:
        while self._queue:
            while self._versions.waiting:
                await asyncio.sleep(_YIELD_S)
            batch = [self._queue.popleft()]
            while self._queue and len(batch) < _BATCH_ROWS and self._queue[0][:2] == batch[0][:2]:
                batch.append(self._queue.popleft())
            loaded = self._versions.view.loaded.get(batch[0].version)
            if loaded is not None:
                await self._compare(loaded, batch)
            else:
                # The version was dropped while its rows waited.
                self._comparison(*batch[0][:2]).dropped += len(batch)

    async def _compare(self, loaded: LoadedVersion, batch: Sequence[_Mirrored]) -> None:
        comparison = self._comparison(loaded.version, batch[0].champion)
        began = time.perf_counter()
        try:
            # Parsed anew from the request: another version may encode values in another way.
            rows = [_again(loaded, each.row) for each in batch]
            scored = await asyncio.wait_for(loaded.inference.predict(rows, _TIMEOUT_S), _TIMEOUT_S)
        except Exception:
            # Any failure of a shadow is counted, and must not affect live traffic.
            logger.debug("shadow %s failed", loaded.version, exc_info=True)
            comparison.failed += len(batch)
            return
        took = time.perf_counter() - began
        for each, shadow in zip(batch, scored, strict=True):
            row = each.row
            comparison.add(
                row.renderer.output,
                ScoredRow(row.prediction.scores, row.code, row.latency_s),
                ScoredRow(shadow.scores, loaded.renderer.output.code(shadow.scores), took),
            )


def _again(loaded: LoadedVersion, answered: Answered) -> Row:
    """Return an answered row as a version parses it, with the windows of the time at which it was answered."""
    row, windows = answered.prediction.row, answered.prediction.lookup.windows
    parsed = loaded.parser.parse(row.values, answered.request_id)
    if row.query is None:
        return parsed
    return parsed.unrecorded(row.query.time_us if windows is None else windows.time_us, row.query.key)
