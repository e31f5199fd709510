"""CORS: which pages of other origins may read this service's answers in a browser."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping, Sequence
from typing import Any

from ray_app.protocol.responses import HttpProblem

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_PREFLIGHT_MAX_AGE_S = 600
_EXPOSED = b"x-request-id, retry-after"
_ANY = "*"


class Cors:
    """The response headers by which a browser lets a page of another origin read an answer (Fetch standard).

    Args:
        origins: the origins allowed, as browsers send them; "*" for every one.
    """

    def __init__(self, origins: Collection[str]) -> None:
        self._any = _ANY in origins
        self._origins = {origin.encode() for origin in origins}

    def allow(self, headers: Mapping[bytes, bytes], send: Send) -> Send:
        """Return a `send` that adds what the request's origin is allowed to each response, errors included."""
        added = self._headers(headers.get(b"origin"))

        async def send_allowed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        return send_allowed

    async def answer_preflight(self, headers: Mapping[bytes, bytes], methods: Sequence[str], send: Send) -> None:
        """Answer OPTIONS, with which a browser asks before the request itself; `send` is that of `allow`.

        Raises:
            HttpProblem: 403, the origin is not allowed.
        """
        origin = headers[b"origin"]
        if not self._any and origin not in self._origins:
            shown = origin.decode("latin-1")[:100]
            raise HttpProblem(403, "The origin is not allowed", f"RAYSCORE_CORS_ORIGINS does not name {shown}")
        allowed: Headers = [
            (b"access-control-allow-methods", ", ".join(methods).encode()),
            (b"access-control-max-age", str(_PREFLIGHT_MAX_AGE_S).encode()),
        ]
        # All of them: the service reads few headers, and is told nothing by the others.
        if wanted := headers.get(b"access-control-request-headers"):
            allowed.append((b"access-control-allow-headers", wanted))
        await send({"type": "http.response.start", "status": 204, "headers": allowed})
        await send({"type": "http.response.body", "body": b""})

    def _headers(self, origin: bytes | None) -> Headers:
        if self._any:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED)]
        # Also where the origin is not allowed: a cache must not give this answer to one that is.
        added: Headers = [(b"vary", b"origin")]
        if origin is not None and origin in self._origins:
            added += [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _EXPOSED)]
        return added
