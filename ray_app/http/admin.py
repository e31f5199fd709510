"""The admin door: who has the token may look at the traffic rules and change them. Without a token it is closed."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import SecretStr

from ray_app.environment.haproxy import ATTEMPT
from ray_app.protocol import responses
from ray_app.protocol.responses import HttpProblem
from ray_app.protocol.route import Route, RouteReply, RouteRequest

Forward = Callable[[str, dict[str, Any], str], Awaitable[tuple[int, Any]]]
"""Takes an action, what it is told and the address it comes from to Control; returns an HTTP status and plain JSON."""

LOOKS = ("status", "rules", "audit")
"""What a GET may ask for."""
ACTIONS = ("rules", "weight", "promote", "rollback")
"""What a POST may do."""

_PER_S = 20.0
_BURST = 40.0
_WRONG_PER_S = 2.0
_WRONG_BURST = 4.0


class _Budget:
    """Requests that may be taken: so many a second, and so many at once after a pause."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float]) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._left, self._at = burst, clock()

    def take(self) -> bool:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class AdminRoutes:
    """Checks token and rate, then hands on to Control.

    Args:
        token: what a request must carry as bearer token; None keeps the door closed.
        forward: takes an action to Control.
        clock: monotonic seconds.
    """

    def __init__(self, token: SecretStr | None, forward: Forward, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = token.get_secret_value().encode() if token else None
        self._forward = forward
        self._budget = _Budget(_PER_S, _BURST, clock)
        # Of its own: whoever guesses tokens must not keep out who has the right one.
        self._wrong_budget = _Budget(_WRONG_PER_S, _WRONG_BURST, clock)

    def routes(self) -> dict[str, Route]:
        """The door's routes by path."""
        return {
            f"/admin/{name}": Route(
                tuple(method for method, names in (("GET", LOOKS), ("POST", ACTIONS)) if name in names), self._answer
            )
            for name in dict.fromkeys([*LOOKS, *ACTIONS])
        }

    async def _answer(self, told: RouteRequest) -> RouteReply:
        self._admit(told.headers.get(b"authorization", b""))
        name = told.path.removeprefix("/admin/")
        given: dict[str, Any] = {}
        if told.method == "POST":
            decoded = responses.loads(told.body) if told.body.strip() else {}
            if not isinstance(decoded, dict):
                raise HttpProblem(422, "Not an object", "send a JSON object, as docs/rollouts.md has it")
            given = _with_attempt(decoded, told.headers)
        status, said = await self._forward(name if told.method == "POST" else f"look/{name}", given, told.source)
        return RouteReply(status, responses.JSON, responses.dumps(said))

    def _admit(self, authorization: bytes) -> None:
        """Let through whoever has the token.

        Raises:
            HttpProblem: 403, no token is set; 401, another token; 429, too many requests with it, or with others.
        """
        if self._token is None:
            raise HttpProblem(403, "The admin door is closed", "set RAYSCORE_ADMIN_TOKEN to open it")
        scheme, _, given = authorization.partition(b" ")
        right = hmac.compare_digest(given.strip(), self._token) and scheme.lower() == b"bearer"
        if not (self._budget if right else self._wrong_budget).take():
            raise HttpProblem(429, "Too many requests", "try again in a second", {"retry-after": "1"})
        if not right:
            detail = "send the header authorization: Bearer <the token that RAYSCORE_ADMIN_TOKEN holds>"
            raise HttpProblem(401, "Not authorized", detail, {"www-authenticate": "Bearer"})


def _with_attempt(given: dict[str, Any], headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    attempt = headers.get(ATTEMPT.encode(), b"").decode("latin-1")[:200]
    return {"attempt": attempt, **given} if attempt else given
