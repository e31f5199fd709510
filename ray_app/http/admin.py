"""The admin API: a client with the token can read and change the traffic rules. Without a token it is disabled."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import SecretStr

from ray_app.environment.haproxy import ATTEMPT
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
_WRONG_TOKEN_PER_S = 2.0
_WRONG_TOKEN_BURST = 4.0


class _TokenBucket:
    """A rate limit: `per_s` requests a second on average, at most `burst` at once."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float]) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._left, self._refilled_at = burst, clock()

    def take(self) -> bool:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._refilled_at) * self._per_s)
        self._refilled_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class AdminRoutes:
    """Checks token and request rate, then forwards to Control.

    Args:
        token: bearer token that every request must have; None disables the admin API.
        forward: sends an action to Control.
        clock: returns monotonic seconds.
    """

    def __init__(self, token: SecretStr | None, forward: Forward, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = token.get_secret_value().encode() if token else None
        self._forward = forward
        self._limit = _TokenBucket(_PER_S, _BURST, clock)
        # A limit of their own for wrong tokens: a client that guesses must not lock out the one with the right token.
        self._wrong_token_limit = _TokenBucket(_WRONG_TOKEN_PER_S, _WRONG_TOKEN_BURST, clock)

    def routes(self) -> dict[str, Route]:
        """Return the admin API's routes by path."""
        return {
            f"/admin/{name}": Route(
                tuple(method for method, names in (("GET", QUERIES), ("POST", ACTIONS)) if name in names), self._answer
            )
            for name in dict.fromkeys([*QUERIES, *ACTIONS])
        }

    async def _answer(self, request: RouteRequest) -> RouteReply:
        self._authorize(request.headers.get(b"authorization", b""))
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

    def _authorize(self, authorization: bytes) -> None:
        """Check the authorization header and the request rate.

        Raises:
            HttpProblem: 403, no token is set; 401, the token is wrong; 429, too many requests with the right token, or
                with wrong ones.
        """
        if self._token is None:
            raise HttpProblem(403, "The admin API is disabled", "set RAYSCORE_ADMIN_TOKEN to enable it")
        scheme, _, sent = authorization.partition(b" ")
        # Constant time: `==` would tell by its duration how much of a guess is right.
        right = hmac.compare_digest(sent.strip(), self._token) and scheme.lower() == b"bearer"
        if not (self._limit if right else self._wrong_token_limit).take():
            raise HttpProblem(429, "Too many requests", "try again in a second", {"retry-after": "1"})
        if not right:
            detail = "send the header authorization: Bearer <the token that RAYSCORE_ADMIN_TOKEN holds>"
            raise HttpProblem(401, "Not authorized", detail, {"www-authenticate": "Bearer"})


def _with_attempt(arguments: dict[str, Any], headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    """Add HAProxy's id of the request, the same when HAProxy sends it again, so that Control acts on it once."""
    attempt = headers.get(ATTEMPT.encode(), b"").decode("latin-1")[:200]
    return {"attempt": attempt, **arguments} if attempt else arguments
