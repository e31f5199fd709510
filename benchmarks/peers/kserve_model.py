"""KServe's model server with a custom model, asked by its protocol V1. gRPC, latency and access log are off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kserve

from benchmarks.peers.given import given
from benchmarks.peers.scoring import open_scorer


class CardFraud(kserve.Model):
    """The model. Pickling passes its name only, so that each worker process opens the files anew."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.load()

    def load(self) -> bool:
        self._scorer = open_scorer()
        self.ready = True
        return self.ready

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> dict[str, Any]:
        rows = [self._scorer.check(instance) for instance in payload["instances"]]
        return {"predictions": self._scorer.answers(rows)}

    def __reduce__(self) -> tuple[Callable[..., CardFraud], tuple[str]]:
        return CardFraud, (self.name,)


if __name__ == "__main__":
    server = kserve.ModelServer(
        http_port=given().port, workers=given().processes, enable_grpc=False, enable_latency_logging=False
    )
    server.start([CardFraud("card_fraud")])
