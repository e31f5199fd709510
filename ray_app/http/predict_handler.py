"""From a decoded body to its answers: each row goes to the lane of its version, and observers hear of it afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from ray_app.http.request_options import RequestOptions
from ray_app.inference.model_versions import LoadedVersion, ModelVersions, VersionsView
from ray_app.inference.observers import Answered, Failed, Observer
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.prediction import Prediction, Row
from ray_app.protocol import responses
from ray_app.protocol.responses import HttpProblem
from ray_app.protocol.row_parser import RefusedItem

logger = logging.getLogger(__name__)


class Observation:
    """What observers are to be told of one request once its answer has left."""

    __slots__ = ("answered", "epoch", "failed", "named")

    def __init__(self) -> None:
        self.epoch = 0
        self.named = False
        self.answered: list[tuple[LoadedVersion, Prediction]] = []
        self.failed: list[tuple[LoadedVersion, int, Exception]] = []


class PredictHandler:
    """Answers decoded bodies. Belongs to one event loop.

    Args:
        lanes: the versions there are.
        metrics: counts items and where their values came from.
        max_items: most items of one request.
        observers: told of each answer; one that fails is logged, and asked again.
    """

    def __init__(
        self, lanes: ModelVersions, metrics: GatewayMetrics, max_items: int, observers: Sequence[Observer] = ()
    ) -> None:
        self._lanes = lanes
        self._metrics = metrics
        self._max_items = max_items
        self._observers = tuple(observers)

    def begin(self) -> Observation | None:
        """What `answer` and `tell` take; None where nobody looks on, which costs nothing."""
        return Observation() if self._observers else None

    async def answer(self, decoded: Any, asked: str, envelope: RequestOptions, seen: Observation | None) -> Any:
        """Return the JSON object of one row, or the array of many.

        Raises:
            RefusedItem: the row is not valid.
            HttpProblem: the array is empty, or too long.
            ModelNotFound: no version is loaded as the header names it.
            Overloaded, DeadlineExceeded, VersionUnavailable: no row was answered.
        """
        view = self._lanes.view
        if seen is not None:
            seen.epoch, seen.named = view.epoch, envelope.version is not None
        if isinstance(decoded, list):
            return await self._many(view, decoded, asked, envelope, seen)
        lane = view.choose(decoded, asked, envelope.version)
        try:
            row = lane.parser.parse(decoded)
            (prediction,) = await lane.batcher.submit((row,), envelope.timeout_s)
        except Exception as exc:
            self._fail(lane, 1, exc, seen)
            raise
        self._metrics.predictions((prediction,))
        if seen is not None:
            seen.answered.append((lane, prediction))
        return lane.answers.render(prediction, asked, envelope.detail, view.epoch)

    def tell(self, seen: Observation, asked: str, latency_s: float) -> None:
        """Tell the observers of one request, whose answer has left."""
        answered = [
            Answered(
                lane.version,
                seen.epoch,
                asked,
                latency_s,
                each,
                lane.answers.label(each.probability),
                lane.answers,
                seen.named,
            )
            for lane, each in seen.answered
        ]
        failed = [
            Failed(lane.version, seen.epoch, asked, latency_s, rows, responses.problem(exc, asked)[0], exc, seen.named)
            for lane, rows, exc in seen.failed
        ]
        for observer in self._observers:
            try:
                if answered:
                    observer.answered(answered)
                for failure in failed:
                    observer.failed(failure)
            except Exception:
                # Whatever an observer fails with, requests go on.
                logger.exception("an observer failed")

    async def _many(
        self, view: VersionsView, items: list[Any], asked: str, envelope: RequestOptions, seen: Observation | None
    ) -> list[Any]:
        if not items:
            raise HttpProblem(422, "The array is empty", "send at least one item")
        if len(items) > self._max_items:
            raise HttpProblem(
                413, "Too many items", f"{len(items):,} items in one request, at most {self._max_items:,} are taken"
            )
        # To check each row costs more than all else: a full service refuses before.
        self._lanes.require_room(len(items))
        by_lane: dict[LoadedVersion, list[int]] = {}
        for at, item in enumerate(items):
            by_lane.setdefault(view.choose(item, asked, envelope.version), []).append(at)
        replies: list[Any] = [None] * len(items)
        parts = [
            self._part(view, lane, items, places, replies, asked, envelope, seen) for lane, places in by_lane.items()
        ]
        if len(parts) == 1:
            await parts[0]
            return replies
        errors = await asyncio.gather(*parts, return_exceptions=True)
        if all(errors):
            raise next(exc for exc in errors if exc is not None)
        for places, exc in zip(by_lane.values(), errors, strict=True):
            if isinstance(exc, Exception):
                body = {"error": responses.problem(exc, asked)[1]}
                replies = [body if reply is None and at in places else reply for at, reply in enumerate(replies)]
        return replies

    async def _part(
        self,
        view: VersionsView,
        lane: LoadedVersion,
        items: list[Any],
        places: list[int],
        replies: list[Any],
        asked: str,
        envelope: RequestOptions,
        seen: Observation | None,
    ) -> None:
        """Answer the items at these places, all of one lane, into `replies`."""
        rows: list[tuple[int, Row]] = []
        refused: RefusedItem | None = None
        for at in places:
            try:
                rows.append((at, lane.parser.parse(items[at])))
            except RefusedItem as exc:
                replies[at] = {"error": responses.problem(exc, asked)[1]}
                refused = refused or exc
        if refused is not None:
            self._fail(lane, len(places) - len(rows), refused, seen)
        try:
            predictions = await lane.batcher.submit([row for _, row in rows], envelope.timeout_s) if rows else []
        except Exception as exc:
            self._fail(lane, len(rows), exc, seen)
            raise
        self._metrics.predictions(predictions)
        for (at, _), prediction in zip(rows, predictions, strict=True):
            replies[at] = lane.answers.render(prediction, asked, envelope.detail, view.epoch)
        if seen is not None:
            seen.answered += [(lane, prediction) for prediction in predictions]

    def _fail(self, lane: LoadedVersion, rows: int, exc: Exception, seen: Observation | None) -> None:
        if isinstance(exc, RefusedItem):
            self._metrics.refused(rows)
        if seen is not None:
            seen.failed.append((lane, rows, exc))
