"""The yardstick: FastAPI and uvicorn (uvloop, httptools) with ONNX Runtime, as a good engineer writes it by hand."""

from __future__ import annotations

import orjson
import uvicorn
from fastapi import FastAPI, Response

from benchmarks.peers.given import given
from benchmarks.peers.scoring import Scorer, open_scorer


def create_app(scorer: Scorer) -> FastAPI:
    """The service over a scorer."""
    app = FastAPI()

    async def predict(item: scorer.Item) -> Response:  # pyright: ignore[reportInvalidTypeForm]  made from the schema
        return Response(orjson.dumps(scorer.answer(vars(item))), media_type="application/json")

    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    predict.__annotations__["item"] = scorer.Item
    app.post("/predict")(predict)
    app.get("/ready")(ready)
    return app


def app() -> FastAPI:
    """What each worker of uvicorn calls."""
    return create_app(open_scorer())


def run(factory: str) -> None:
    """Serve what a function makes, named as `module:function`, until SIGTERM."""
    uvicorn.run(
        factory,
        factory=True,
        host="127.0.0.1",
        port=given().port,
        workers=given().processes,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    run("benchmarks.peers.fastapi_service:app")
