"""Explanations in this process: the explanation replica's end called directly, and stages that fail or are slow."""

from __future__ import annotations

import asyncio
import math

import numpy as np

from data.schema.reason_codes import ReasonCodes
from ray_app.inference.explanation.explanation_stage import (
    ExplanationServer,
    ExplanationStage,
    RemoteExplanation,
    load_explainer,
)
from tune.registry.bundle import Bundle

CODES = ReasonCodes(top=2, texts={"amount": "The amount is unusual", "foreign_transaction": "Comes from abroad"})
"""Reason codes of the card use case."""


def explained_here(bundle: Bundle) -> ExplanationStage:
    """A stage whose replica is this process: both ends of the encoding, without a socket."""
    explainer, digest = load_explainer(bundle), bytes.fromhex(bundle.digest)
    server = ExplanationServer({digest: explainer}.get)

    async def call(request: bytes, timeout_s: float) -> bytes:
        return server.call(request)

    return RemoteExplanation(call, bundle.digest)


class FailingExplanation:
    """A stage that raises, or that never answers: then its caller's time goes by."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked = 0
        self._error = error

    async def explain(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Fail, or wait for ever."""
        self.asked += len(matrix)
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()
        raise AssertionError("the wait has no end")
