"""The short way from a replica's HTTP server to PredictApp, on a real server and real connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from prometheus_client import generate_latest

from ray_app.deployments.ingress import direct_ingress
from ray_app.deployments.ingress.direct_ingress import DirectIngress, middlewares, register
from ray_app.http.asgi import Receive, Scope, Send
from tests.support.load.http_requests import GatedModel
from tests.support.serving.predict_app import FULL, ServedApp, build_app, run, until

HOST = "127.0.0.1"


async def _long_way(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"way", b"long")]})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def _serving(served: ServedApp) -> AsyncIterator[int]:
    """The port of a server that gives predictions to PredictApp and all else to `_long_way`."""
    config = uvicorn.Config(
        DirectIngress(_long_way, served.app), host=HOST, port=0, lifespan="off", log_level="critical"
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


def test_predictions_take_the_short_way_and_the_rest_does_not():
    """POST /predict is answered by PredictApp, with the request id as a header; the rest goes on to Serve."""

    async def scenario() -> None:
        async with _serving(build_app()) as port, httpx.AsyncClient(base_url=f"http://{HOST}:{port}") as client:
            named = await client.post("/predict", json=FULL, headers={"x-request-id": "find-me"})
            assert named.status_code == 200
            assert named.headers.get_list("x-request-id") == ["find-me"]
            assert named.json()["request_id"] == "find-me"
            refused = await client.post("/predict", json={})
            assert refused.status_code == 422
            assert refused.headers["x-request-id"] == refused.json()["request_id"]
            for other in (await client.get("/predict"), await client.get("/ready"), await client.post("/else")):
                assert other.headers["way"] == "long"

    run(scenario())


def test_work_of_a_caller_that_left_is_dropped_before_it_costs():
    """A caller that leaves while its row is queued is never scored; the others are, and the departure is counted."""

    async def scenario() -> None:
        model = GatedModel()
        served = build_app(model=model, batch_slots=1, max_batch=1)
        async with _serving(served) as port, httpx.AsyncClient(base_url=f"http://{HOST}:{port}") as client:
            first = asyncio.create_task(client.post("/predict", json=FULL))
            await until(lambda: model.entered == 1)
            body = json.dumps(FULL).encode()
            _, leaver = await asyncio.open_connection(HOST, port)
            head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            leaver.write(head.encode() + b"\r\n\r\n" + body)
            await until(lambda: served.batcher.waiting == 1)
            last = asyncio.create_task(client.post("/predict", json=FULL))
            await until(lambda: served.batcher.waiting == 2)
            leaver.close()
            await until(lambda: 'code="499"' in generate_latest(served.metrics.registry).decode())
            model.gate.set()
            assert (await first).status_code == (await last).status_code == 200
        assert model.entered == 2

    run(scenario())


def test_only_a_process_with_an_application_gets_the_middleware():
    """Serve's proxies and the stages, which register no application, run their servers as they are."""
    before = list(direct_ingress._predict_apps)
    served = build_app()
    try:
        direct_ingress._predict_apps.clear()
        assert middlewares() == []
        register(build_app().app)
        register(served.app)
        assert [middleware.kwargs for middleware in middlewares()] == [{"predict_app": served.app}]
    finally:
        direct_ingress._predict_apps[:] = before
