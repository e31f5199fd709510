"""What a request says besides its body: its id, the detail wanted, and the time it may take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qs

from ray_app.protocol import responses
from ray_app.protocol.responses import HttpProblem

Headers = Mapping[bytes, bytes]

_TRUE = ("1", "true", "yes")
_TIMEOUT_DIGITS = 9


class RequestOptions(NamedTuple):
    """What was asked for.

    `detail`: each feature's source is wanted. `timeout_s`: time the answer may take, in seconds. `version`: the one
    that is to answer whatever the traffic rules say, None for theirs.
    """

    detail: bool
    timeout_s: float
    version: str | None = None


def read_envelope(headers: Headers, query: bytes, limit_s: float) -> RequestOptions:
    """Read what a /predict request says of itself; `limit_s` is the most time that any may take.

    Raises:
        HttpProblem: 415, the body is not announced as JSON; 400, the time asked for is not a number of milliseconds.
    """
    given = headers.get(b"content-type", b"")
    if given.split(b";")[0].strip().lower() != responses.JSON:
        shown = given.decode("latin-1")[:100] or "none"
        raise HttpProblem(415, "Wrong content type", f"send content-type: application/json, not {shown}")
    version = headers.get(b"x-model-version")
    named = version.decode("latin-1") if version is not None else None
    return RequestOptions(_wants_detail(query), _timeout_s(headers, limit_s), named)


def request_id(headers: Headers) -> str:
    """Return the client's request id when it is fit to be shown and logged, else a new one."""
    given = headers.get(b"x-request-id", b"")
    if 0 < len(given) <= 128 and given.isascii() and given.decode().isprintable():
        return given.decode()
    return os.urandom(8).hex()


def _wants_detail(query: bytes) -> bool:
    return bool(query) and parse_qs(query.decode("latin-1")).get("detail", ["0"])[-1].lower() in _TRUE


def _timeout_s(headers: Headers, limit_s: float) -> float:
    given = headers.get(b"x-request-timeout-ms")
    if given is None:
        return limit_s
    if not given.isdigit() or len(given) > _TIMEOUT_DIGITS or int(given) == 0:
        detail = f"x-request-timeout-ms takes whole milliseconds from 1 on, not {given.decode('latin-1')[:40]!r}"
        raise HttpProblem(400, "Wrong timeout", detail)
    return min(int(given) / 1000, limit_s)
