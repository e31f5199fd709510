"""Explains the answers of one model version: what is added to each, within a bounded time and whatever fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from data.errors import DeadlineExceeded, Overloaded, VersionUnavailable
from data.schema.reason_codes import ReasonCodes
from ray_app.inference.explanation.explanation_stage import LEADING, ExplanationStage
from ray_app.inference.explanation.reasons import reason_features
from ray_app.inference.micro_batching import MicroBatcher
from ray_app.inference.queue_limit import QueueLimit
from ray_app.monitoring.explanation_outcomes import GIVEN, ExplanationOutcomes
from ray_app.prediction import Prediction
from ray_app.protocol.explanation_fields import FAILED, NOT_LOADED, OVERLOADED, TIMEOUT
from ray_app.protocol.responses import ResponseRenderer
from tune.registry.bundle import Bundle

logger = logging.getLogger("ray.serve")

_BATCH_ROWS = 16
"""Most rows of one call: 5 to 50 ms of an explanation replica, during which it takes no other call."""
_OUTCOMES: dict[type[Exception], str] = {
    DeadlineExceeded: TIMEOUT,
    Overloaded: OVERLOADED,
    VersionUnavailable: NOT_LOADED,
}


@dataclass(frozen=True)
class ExplanationParts:
    """What the explainers of all versions of one gateway share.

    `codes` are those of the use case; `stage` returns the stage that explains a bundle's rows; `replicas` returns the
    number of explanation replicas, each of which gets one call at a time; `timeout_s` is the longest time for an
    explanation; `queue_limit` is the most rows that wait for one.
    """

    codes: ReasonCodes
    stage: Callable[[Bundle], ExplanationStage]
    outcomes: ExplanationOutcomes
    timeout_s: float
    queue_limit: int
    replicas: Callable[[], int] = lambda: 1

    @cached_property
    def limit(self) -> QueueLimit:
        """Limit of the waiting rows of all versions together."""
        return QueueLimit(self.queue_limit)

    def explainer(self, bundle: Bundle, renderer: ResponseRenderer) -> AnswerExplainer:
        """Return the explainer of one version, whose answers `renderer` renders."""
        return AnswerExplainer(self, bundle, renderer)


class AnswerExplainer:
    """Explains the answers of one version. Belongs to one event loop.

    Rows of concurrent requests are explained together. They wait here, not in the replicas: what has waited too long is
    dropped before it costs anything.
    """

    def __init__(self, parts: ExplanationParts, bundle: Bundle, renderer: ResponseRenderer) -> None:
        self._codes = parts.codes
        self._outcomes = parts.outcomes
        self._timeout_s = parts.timeout_s
        self._names = bundle.manifest.schema_.names
        self._declared = [feature.declared_name for feature in bundle.manifest.schema_.features]
        self._renderer = renderer
        self._stage = parts.stage(bundle)
        self._batcher = MicroBatcher(
            self._explain_batch,
            max_batch=_BATCH_ROWS,
            slots=lambda: max(parts.replicas(), 1),
            limit=parts.limit,
        )

    async def explain(self, predictions: Sequence[Prediction], left_s: float) -> list[dict[str, Any]]:
        """Return what is added to the JSON object of each answer, in order: never an error.

        That is `explanation`; where there is none in time it is null, and `explanation_error` says why.

        Args:
            predictions: of rows that this version scored; the vectors that were scored are explained.
            left_s: seconds that the caller has left. The explanation gets half of them, so that the answer is in time
                also without it.
        """
        timeout_s = min(self._timeout_s, left_s / 2)
        # In parts: of an array that is too long to be explained in time, those that are ready have their reasons.
        parts = [predictions[at : at + _BATCH_ROWS] for at in range(0, len(predictions), _BATCH_ROWS)]
        explained = await asyncio.gather(*(self._explain_part(part, timeout_s) for part in parts))
        return [each for part in explained for each in part]

    async def close(self) -> None:
        """Let the calls under way end, and the waiting rows go unexplained."""
        await self._batcher.close()

    async def _explain_part(self, predictions: Sequence[Prediction], timeout_s: float) -> list[dict[str, Any]]:
        try:
            vectors = [prediction.vector for prediction in predictions]
            found = await self._batcher.submit(vectors, timeout_s)
            plain = [self._plain(*each) for each in zip(predictions, found, strict=True)]
        except Exception as exc:
            outcome = _OUTCOMES.get(type(exc), FAILED)
            if outcome == FAILED:
                logger.exception("an explanation failed")
            self._outcomes.count(outcome, len(predictions))
            return [{"explanation": None, "explanation_error": outcome} for _ in predictions]
        self._outcomes.count(GIVEN, len(predictions))
        return [{"explanation": each} for each in plain]

    async def _explain_batch(self, vectors: Sequence[Sequence[float]], budget_s: float) -> list[np.ndarray]:
        # As the inference pipeline makes it: of the same values the same float32.
        return list(await self._stage.explain(np.array(vectors, np.float32), budget_s))

    def _plain(self, prediction: Prediction, explained: np.ndarray) -> dict[str, Any]:
        base_value, margin = explained[:LEADING].tolist()
        contributions = explained[LEADING:]
        return {
            "base_value": base_value,
            "margin": margin,
            "contributions": dict(zip(self._names, contributions.tolist(), strict=True)),
            "reasons": [
                {
                    "feature": self._names[i],
                    "value": self._renderer.value(i, prediction),
                    "contribution": float(contributions[i]),
                    "text": self._codes.text(self._declared[i]),
                }
                for i in reason_features(contributions, self._codes.top)
            ],
        }
