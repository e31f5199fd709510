"""The HTTP application when it is full, late or broken; also, that no body at all makes a server error."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import MutableMapping
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_app.inference.features.feature_fetch import LocalFeatures
from ray_app.transport.client import CallFailed
from tests.support.load.http_requests import JSON, GatedModel, ask, problem
from tests.support.serving.predict_app import (
    FULL,
    ROW,
    ServedApp,
    build_app,
    run,
    until,
)


def test_full_service_refuses():
    """Beyond the queue's limit the answer is 503 with Retry-After, and those that wait are answered."""

    async def scenario() -> None:
        model = GatedModel()
        full = build_app(model=model, queue_limit=2, batch_slots=1, max_items=2)
        waiting = [asyncio.create_task(full.post(FULL)) for _ in range(3)]
        await until(lambda: model.entered == 1 and full.batcher.waiting == 2)
        refused = await full.post(FULL)
        problem(refused, 503, "try again later")
        assert refused.headers["retry-after"] == "1"
        model.gate.set()
        assert [response.status_code for response in await asyncio.gather(*waiting)] == [200] * 3

    run(scenario())


def test_full_service_refuses_before_it_checks_rows():
    """An array for which there is no room is 503 in whole, whatever is in it: no row was looked at."""

    async def scenario() -> None:
        model = GatedModel()
        full = build_app(model=model, queue_limit=2, batch_slots=1, max_items=2)
        waiting = [asyncio.create_task(full.post(FULL)) for _ in range(2)]
        await until(lambda: model.entered == 1 and full.batcher.waiting == 1)
        problem(await full.post([{"amount": "not a number"}, {}]), 503, "try again later")
        assert (await full.post([{}])).status_code == 200
        model.gate.set()
        await asyncio.gather(*waiting)

    run(scenario())


def test_request_past_its_time():
    """A request that takes longer than allowed is 504."""

    async def scenario() -> None:
        problem(await build_app(model=GatedModel(), request_timeout_ms=20).post(FULL), 504, "time allowed")

    run(scenario())


def test_client_sets_the_time_its_answer_may_take():
    """The header shortens the time allowed; a value that is no number of milliseconds is named, with 400."""

    async def scenario() -> None:
        served = build_app(model=GatedModel())
        short = await served.post(FULL, **{"x-request-timeout-ms": "20"})
        problem(short, 504, "time allowed")
        for wrong in ("0", "-5", "1.5", "soon", "9" * 40):
            problem(await served.post(FULL, **{"x-request-timeout-ms": wrong}), 400, "x-request-timeout-ms", wrong)

    run(scenario())


def test_a_longer_time_than_the_service_allows_does_not_count():
    """The service's own limit ends a request that asked for more time."""

    async def scenario() -> None:
        served = build_app(model=GatedModel(), request_timeout_ms=20)
        problem(await served.post(FULL, **{"x-request-timeout-ms": "60000"}), 504, "time allowed")

    run(scenario())


def test_internal_fault_is_not_shown(caplog: pytest.LogCaptureFixture):
    """A fault in the service is 500 without its text, which is in the log under the request id."""

    async def scenario() -> None:
        broken = build_app(model=GatedModel(ZeroDivisionError("secret of /etc")))
        response = await broken.post(FULL, **{"x-request-id": "find-me"})
        problem(response, 500, "under this request id")
        assert "secret" not in response.text
        many = await broken.post([FULL, FULL])
        problem(many, 500)

    run(scenario())
    assert "find-me" in caplog.text
    assert "secret of /etc" in caplog.text


def test_every_500_is_in_the_log(caplog: pytest.LogCaptureFixture):
    """An error of ours that has no status of its own is a 500, and its cause is logged under the request's id."""

    class Failing:
        async def score(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
            raise CallFailed("the replica's own words")

    response = run(build_app(model=Failing()).post(FULL, **{"x-request-id": "known-id"}))
    problem(response, 500, "in the service's log")
    (record,) = [record for record in caplog.records if "known-id" in record.getMessage()]
    assert record.exc_info is not None
    assert "own words" in str(record.exc_info[1])


def test_metrics_count_what_happened(features: LocalFeatures):
    """Requests, items, sources and entities are counted as answered."""
    fresh = build_app(features)

    async def scenario() -> str:
        await fresh.post(ROW)
        await fresh.post([ROW, {**ROW, "user_id": "stranger"}, {}])
        await fresh.post({})
        return (await ask(fresh, "GET", "/metrics")).text

    text = run(scenario())
    for line in (
        'rayscore_requests_total{code="200",replica="replica-1"} 2.0',
        'rayscore_requests_total{code="422",replica="replica-1"} 1.0',
        'rayscore_items_total{outcome="ok",replica="replica-1"} 3.0',
        'rayscore_items_total{outcome="refused",replica="replica-1"} 2.0',
        'rayscore_entities_total{found="true",replica="replica-1"} 2.0',
        'rayscore_entities_total{found="false",replica="replica-1"} 1.0',
        'rayscore_feature_source_total{replica="replica-1",source="online"} 6.0',
        'rayscore_feature_source_total{replica="replica-1",source="default"} 3.0',
        'rayscore_batch_rows_count{replica="replica-1"} 2.0',
        'rayscore_request_seconds_count{replica="replica-1"} 3.0',
    ):
        assert line in text.splitlines()


def test_lifespan():
    """The application takes part in a server's startup and shutdown."""
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def scenario() -> None:
        async def receive() -> MutableMapping[str, Any]:
            return messages.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message["type"])

        await build_app().app({"type": "lifespan"}, receive, send)

    run(scenario())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


_NAMES = st.sampled_from([*FULL, "transaction_id", "is_fraud"]) | st.text(max_size=8)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)
_CHANGES = st.dictionaries(_NAMES, _VALUES, max_size=4)
_BODIES = _VALUES | _CHANGES.map(lambda change: {**FULL, **change}) | st.lists(_CHANGES, max_size=4)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_BODIES, st.booleans())
def test_no_body_makes_a_server_error(served: ServedApp, body: object, detail: bool):
    """Whatever JSON a client sends, the answer is JSON and never a 5xx."""

    async def scenario() -> httpx.Response:
        async with served.client() as client:
            return await client.post(f"/predict?detail={detail}", content=json.dumps(body), headers=JSON)

    response = run(scenario())
    assert response.status_code < 500
    assert response.json() is not None


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_no_bytes_make_a_server_error(served: ServedApp, body: bytes):
    """Whatever bytes a client sends, the answer is never a 5xx."""
    assert run(served.send(body)).status_code < 500
