"""FastAPI and uvicorn (uvloop, httptools) with ONNX Runtime, written by hand: the baseline of the comparison."""

from __future__ import annotations

import orjson
import uvicorn
from fastapi import FastAPI, Response

from benchmarks.peers.given import given
from benchmarks.peers.scoring import Scorer, open_scorer


def create_app(scorer: Scorer) -> FastAPI:
    """Build the FastAPI application around a scorer."""
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
    """Application factory that each uvicorn worker calls."""
    return create_app(open_scorer())


def run(factory: str) -> None:
    """Serve the application of a factory, given as `module:function`, until SIGTERM."""
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
