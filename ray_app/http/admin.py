"""The admin API: a client with the token can read and change the traffic rules. Without a token it is disabled."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import SecretStr

from ray_app.environment.haproxy import ATTEMPT
from ray_app.http.bearer_token import BearerToken, RateLimit
from ray_app.protocol import json_body, responses
from ray_app.protocol.responses import HttpProblem
from ray_app.protocol.route import Route, RouteReply, RouteRequest

Forward = Callable[[str, dict[str, Any], str], Awaitable[tuple[int, Any]]]
"""Sends an action, its JSON object and the client's address to Control; returns an HTTP status and a JSON value."""

QUERIES = ("status", "rules", "audit")
"""Names of the GET routes."""
ACTIONS = ("rules", "weight", "promote", "rollback")
"""Names of the POST routes."""

_PER_S = 20.0
_BURST = 40.0


class AdminRoutes:
    """Checks token and request rate, then forwards to Control.

    Args:
        token: bearer token that every request must have; None disables the admin API.
        forward: sends an action to Control.
        clock: returns monotonic seconds.
    """

    def __init__(self, token: SecretStr | None, forward: Forward, clock: Callable[[], float] = time.monotonic) -> None:
        limit = RateLimit(_PER_S, _BURST, clock)
        self._token = BearerToken(token, "The admin API", "RAYSCORE_ADMIN_TOKEN", limit, clock)
        self._forward = forward

    def routes(self) -> dict[str, Route]:
        """Return the admin API's routes by path."""
        return {
            f"/admin/{name}": Route(
                tuple(method for method, names in (("GET", QUERIES), ("POST", ACTIONS)) if name in names), self._answer
            )
            for name in dict.fromkeys([*QUERIES, *ACTIONS])
        }

    async def _answer(self, request: RouteRequest) -> RouteReply:
        self._token.require(request.headers.get(b"authorization", b""))
        name = request.path.removeprefix("/admin/")
        arguments: dict[str, Any] = {}
        if request.method == "POST":
            decoded = json_body.decode(request.body) if request.body.strip() else {}
            if not isinstance(decoded, dict):
                raise HttpProblem(422, "Not an object", "send a JSON object, as docs/rollouts.md has it")
            arguments = _with_attempt(decoded, request.headers)
        action = name if request.method == "POST" else f"look/{name}"
        status, reply = await self._forward(action, arguments, request.source)
        return RouteReply(status, responses.JSON, responses.dumps(reply))


def _with_attempt(arguments: dict[str, Any], headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    """Add HAProxy's id of the request, the same when HAProxy sends it again, so that Control acts on it once."""
    attempt = headers.get(ATTEMPT.encode(), b"").decode("latin-1")[:200]
    return {"attempt": attempt, **arguments} if attempt else arguments
