"""The bearer token of a part of the HTTP API that is closed without one, with limits on requests and on guesses."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable

from pydantic import SecretStr

from ray_app.protocol.responses import HttpProblem

_WRONG_TOKEN_PER_S = 2.0
_WRONG_TOKEN_BURST = 4.0


class RateLimit:
    """At most `per_s` requests a second on average, and `burst` at once."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._left, self._refilled_at = burst, clock()

    def take(self) -> bool:
        """Count a request; False when it is one too many."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._refilled_at) * self._per_s)
        self._refilled_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class BearerToken:
    """Lets requests with the token pass.

    Args:
        token: that every request must have; None closes the part of the API.
        what: the part, as a refusal names it, such as "The admin API".
        setting: the variable that holds the token.
        limit: of the requests with the right token; None for none.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        token: SecretStr | None,
        what: str,
        setting: str,
        limit: RateLimit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token = token.get_secret_value().encode() if token else None
        self._what, self._setting = what, setting
        self._limit = limit
        # A limit of their own for wrong tokens: a client that guesses must not lock out the one with the right token.
        self._wrong_token_limit = RateLimit(_WRONG_TOKEN_PER_S, _WRONG_TOKEN_BURST, clock)

    def require(self, authorization: bytes) -> None:
        """Check the authorization header and the request rate.

        Raises:
            HttpProblem: 403, no token is set; 401, the token is wrong; 429, too many requests with the right token, or
                with wrong ones.
        """
        if self._token is None:
            raise HttpProblem(403, f"{self._what} is disabled", f"set {self._setting} to enable it")
        scheme, _, sent = authorization.partition(b" ")
        # Constant time: `==` would tell by its duration how much of a guess is right.
        right = hmac.compare_digest(sent.strip(), self._token) and scheme.lower() == b"bearer"
        limit = self._limit if right else self._wrong_token_limit
        if limit is not None and not limit.take():
            raise HttpProblem(429, "Too many requests", "try again in a second", {"retry-after": "1"})
        if not right:
            detail = f"send the header authorization: Bearer <the token that {self._setting} holds>"
            raise HttpProblem(401, "Not authorized", detail, {"www-authenticate": "Bearer"})
