"""Answers a decoded JSON body: chooses the model version of each row, has it scored, and tells the observers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

from ray_app.http.request_options import RequestOptions
from ray_app.inference.micro_batching import MicroBatcher
from ray_app.inference.model_versions import LoadedVersion, ModelVersions, VersionsView
from ray_app.inference.observers import Answered, Failed, Observer
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.prediction import Prediction, Row
from ray_app.protocol import responses
from ray_app.protocol.responses import HttpProblem
from ray_app.protocol.row_parser import RefusedItem

logger = logging.getLogger(__name__)

_UNDECLARED = (
    "this service was started for a use case without reason codes, so it cannot explain an answer; declare "
    "[explanation] in the use case's file and start the service again, or leave out explain=1"
)


class Observation:
    """The answers and failures of one request, kept for the observers until the response is sent.

    `named` is True when the request asked for a version by header.
    """

    __slots__ = ("answered", "epoch", "failed", "named")

    def __init__(self) -> None:
        self.epoch = 0
        self.named = False
        self.answered: list[tuple[LoadedVersion, Prediction]] = []
        self.failed: list[tuple[LoadedVersion, int, Exception]] = []


class PredictHandler:
    """Answers decoded bodies of /predict. Belongs to one event loop.

    Args:
        versions: the loaded model versions and the traffic rules.
        metrics: counts predictions, their value sources, and refused items.
        max_items: largest number of items in one request.
        observers: called after each response; an exception of theirs is logged and otherwise ignored.
    """

    def __init__(
        self, versions: ModelVersions, metrics: GatewayMetrics, max_items: int, observers: Sequence[Observer] = ()
    ) -> None:
        self._versions = versions
        self._metrics = metrics
        self._max_items = max_items
        self._observers = tuple(observers)

    def begin(self) -> Observation | None:
        """Return a new observation for `answer` and `notify`; None when there are no observers, to save the work."""
        return Observation() if self._observers else None

    async def answer(
        self, decoded: Any, request_id: str, options: RequestOptions, observation: Observation | None
    ) -> Any:
        """Return the JSON object for one row, or a list of them for an array.

        In a list, an invalid item has an error object in its place, and so have the items of a version that failed
        while another version answered.

        Raises:
            RefusedItem: the single row is not valid.
            HttpProblem: the array is empty (422) or too long (413), or reasons are asked for and none declared (422).
            ModelNotFound: the version named by header is not loaded.
            Overloaded, DeadlineExceeded, VersionUnavailable: no row could be scored.
        """
        view = self._versions.view
        if options.explain and view.champion.explainer is None:
            raise HttpProblem(422, "No reasons are declared", _UNDECLARED)
        started = time.perf_counter() if options.explain else 0.0
        if observation is not None:
            observation.epoch, observation.named = view.epoch, options.version is not None
        if isinstance(decoded, list):
            return await self._answer_many(view, decoded, request_id, options, observation, started)
        loaded = view.choose(decoded, request_id, options.version)
        try:
            row = loaded.parser.parse(decoded, options.event_key, scratch=options.scratch)
            (prediction,) = await _batcher(loaded, options).submit((row,), options.timeout_s)
        except Exception as exc:
            self._record_failure(loaded, 1, exc, options, observation)
            raise
        if not options.scratch:
            self._metrics.predictions((prediction,))
        if observation is not None:
            observation.answered.append((loaded, prediction))
        answer = loaded.renderer.render(prediction, request_id, options.detail, view.epoch)
        _add_ranked(loaded, (prediction,), (answer,))
        if options.explain and loaded.explainer is not None:
            (explained,) = await loaded.explainer.explain((prediction,), _left_s(options, started))
            answer |= explained
        return answer

    def notify(self, observation: Observation, request_id: str, latency_s: float) -> None:
        """Tell the observers of one request, after its response was sent; `latency_s` is the request's duration."""
        answered = [
            Answered(
                loaded.version,
                observation.epoch,
                request_id,
                latency_s,
                prediction,
                loaded.renderer.output.code(prediction.scores),
                loaded.renderer,
                observation.named,
            )
            for loaded, prediction in observation.answered
        ]
        failed = [
            Failed(
                loaded.version,
                observation.epoch,
                request_id,
                latency_s,
                rows,
                responses.problem(exc, request_id)[0],
                exc,
                observation.named,
            )
            for loaded, rows, exc in observation.failed
        ]
        for observer in self._observers:
            try:
                if answered:
                    observer.answered(answered)
                for failure in failed:
                    observer.failed(failure)
            except Exception:
                # The response was sent already: a faulty observer must not turn it into a failed request.
                logger.exception("an observer failed")

    async def _answer_many(
        self,
        view: VersionsView,
        items: list[Any],
        request_id: str,
        options: RequestOptions,
        observation: Observation | None,
        started: float,
    ) -> list[Any]:
        if not items:
            raise HttpProblem(422, "The array is empty", "send at least one item")
        if len(items) > self._max_items:
            raise HttpProblem(
                413, "Too many items", f"{len(items):,} items in one request, at most {self._max_items:,} are taken"
            )
        # Before parsing, which costs the most here: a gateway with a full queue must refuse cheaply.
        self._versions.require_room(len(items))
        by_version: dict[LoadedVersion, list[int]] = {}
        for index, item in enumerate(items):
            by_version.setdefault(view.choose(item, request_id, options.version), []).append(index)
        replies: list[Any] = [None] * len(items)
        parts = [
            self._answer_version(view, loaded, items, indices, replies, request_id, options, observation, started)
            for loaded, indices in by_version.items()
        ]
        if len(parts) == 1:
            await parts[0]
            return replies
        errors = await asyncio.gather(*parts, return_exceptions=True)
        if all(errors):
            raise next(exc for exc in errors if exc is not None)
        for indices, exc in zip(by_version.values(), errors, strict=True):
            if isinstance(exc, Exception):
                body = {"error": responses.problem(exc, request_id)[1]}
                for index in indices:
                    if replies[index] is None:
                        replies[index] = body
        return replies

    async def _answer_version(
        self,
        view: VersionsView,
        loaded: LoadedVersion,
        items: list[Any],
        indices: list[int],
        replies: list[Any],
        request_id: str,
        options: RequestOptions,
        observation: Observation | None,
        started: float,
    ) -> None:
        """Write the answers of the items at `indices`, all of one version, into `replies`."""
        rows: list[tuple[int, Row]] = []
        refused: RefusedItem | None = None
        for index in indices:
            try:
                key = f"{options.event_key}.{index}"
                rows.append((index, loaded.parser.parse(items[index], key, scratch=options.scratch)))
            except RefusedItem as exc:
                replies[index] = {"error": responses.problem(exc, request_id)[1]}
                refused = refused or exc
        if refused is not None:
            self._record_failure(loaded, len(indices) - len(rows), refused, options, observation)
        try:
            asked = [row for _, row in rows]
            predictions = await _batcher(loaded, options).submit(asked, options.timeout_s) if rows else []
        except Exception as exc:
            self._record_failure(loaded, len(rows), exc, options, observation)
            raise
        if not options.scratch:
            self._metrics.predictions(predictions)
        for (index, _), prediction in zip(rows, predictions, strict=True):
            replies[index] = loaded.renderer.render(prediction, request_id, options.detail, view.epoch)
        _add_ranked(loaded, predictions, (replies[index] for index, _ in rows))
        if observation is not None:
            observation.answered += [(loaded, prediction) for prediction in predictions]
        if options.explain and loaded.explainer is not None:
            explained = await loaded.explainer.explain(predictions, _left_s(options, started))
            for (index, _), more in zip(rows, explained, strict=True):
                replies[index] |= more

    def _record_failure(
        self,
        loaded: LoadedVersion,
        rows: int,
        exc: Exception,
        options: RequestOptions,
        observation: Observation | None,
    ) -> None:
        if isinstance(exc, RefusedItem) and not options.scratch:
            self._metrics.refused(rows)
        if observation is not None:
            observation.failed.append((loaded, rows, exc))


def _add_ranked(loaded: LoadedVersion, predictions: Sequence[Prediction], answers: Iterable[dict[str, Any]]) -> None:
    """Add to each answer what follows from all of them."""
    ranked = loaded.renderer.output.ranked([prediction.scores for prediction in predictions])
    # There is nothing to add where every row stands alone.
    for answer, more in zip(answers, ranked, strict=False):
        answer.update(more)


def _left_s(options: RequestOptions, started: float) -> float:
    """The seconds that a request has left which began at `started` of `time.perf_counter`."""
    return options.timeout_s - (time.perf_counter() - started)


def _batcher(loaded: LoadedVersion, options: RequestOptions) -> MicroBatcher[Row, Prediction]:
    return loaded.scratch if options.scratch else loaded.batcher
