"""BentoML: one service, one async endpoint whose body is the request itself; `bentoml serve` runs it.

An async endpoint runs on the worker's event loop, as BentoML advises for work of microseconds. Metrics and the
access log are off.
"""

from typing import Any

import bentoml

from benchmarks.peers.given import given
from benchmarks.peers.scoring import open_scorer, request_model
from tune.registry.bundle import Bundle

Item = request_model(Bundle.load(given().bundle).manifest)


@bentoml.service(
    workers=given().processes,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class CardFraud:
    def __init__(self) -> None:
        self._scorer = open_scorer()

    @bentoml.api
    async def predict(self, item: Item, /) -> dict[str, Any]:  # pyright: ignore[reportInvalidTypeForm]
        return self._scorer.answer(vars(item))
