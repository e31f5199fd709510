"""What the HTTP tests share: the check of problem details, a model with a gate, a raw exchange."""

from __future__ import annotations

import asyncio
import math
from collections.abc import MutableMapping
from typing import Any

import httpx
import numpy as np

from tests.support.serving.predict_app import (
    ServedApp,
    run,
)

JSON = {"content-type": "application/json"}
MIB = 1_048_576


def problem(response: httpx.Response, status: int, *words: str) -> dict[str, Any]:
    """Assert that the answer is problem details (RFC 9457) of the status that mention the words."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["request_id"]
    assert body["type"] == "about:blank"
    for word in words:
        assert word in body["detail"] + body["title"]
    return body


class GatedModel:
    """A model that answers one half when the gate opens, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.gate = asyncio.Event()
        self.entered = 0
        self._error = error

    async def score(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Wait, then answer or fail."""
        self.entered += 1
        if self._error is not None:
            raise self._error
        await self.gate.wait()
        return np.full((len(matrix), 1), 0.5, np.float32)


def exchange(
    served: ServedApp, messages: list[MutableMapping[str, Any]], *headers: tuple[bytes, bytes]
) -> tuple[list[MutableMapping[str, Any]], int]:
    """Speak ASGI directly: give these messages, then nothing more; return what was sent and how often it read."""
    sent: list[MutableMapping[str, Any]] = []
    waiting = list(messages)
    asked = 0

    async def receive() -> MutableMapping[str, Any]:
        nonlocal asked
        asked += 1
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    head = [(b"content-type", b"application/json"), *headers]
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": head}
    run(served.app(scope, receive, send))
    return sent, asked


async def ask(served: ServedApp, method: str, path: str, **headers: str) -> httpx.Response:
    """Send one request without a body."""
    async with served.client() as client:
        return await client.request(method, path, headers=headers)
