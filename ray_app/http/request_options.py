"""The options of a /predict request besides its body: request id, detail, reasons, timeout and model version."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qs

from ray_app.environment.haproxy import ATTEMPT
from ray_app.protocol import responses
from ray_app.protocol.responses import HttpProblem

Headers = Mapping[bytes, bytes]

SCRATCH = b"x-rayscore-scratch"
"""Header of requests that are recorded in and answered from the scratch stores."""
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no")
_TIMEOUT_DIGITS = 9
_ATTEMPT = ATTEMPT.encode()
# ASCII is the same bytes in UTF-8.
_UTF8 = (b"utf-8", b"utf8", b"us-ascii", b"ascii")


class RequestOptions(NamedTuple):
    """Options of one request.

    `detail`: the answer lists each feature's value and source. `timeout_s`: time limit of the answer, in seconds.
    `version`: the model version that must answer; None leaves the choice to the traffic rules. `event_key`: key of the
    events of rows that name none. `scratch`: the rows are of a proof, recorded in and answered from the scratch stores.
    `explain`: the answer says which features made the score.
    """

    detail: bool
    timeout_s: float
    version: str | None = None
    event_key: str = ""
    scratch: bool = False
    explain: bool = False


def read_options(headers: Headers, query: bytes, limit_s: float, request_id: str = "") -> RequestOptions:
    """Read the options from headers and query string; `limit_s` is the longest timeout, and the default one.

    Raises:
        HttpProblem: 415, the content type is not JSON in UTF-8; 400, the timeout is not a positive number of
            milliseconds, the header of scratch stores is not 1, or `explain` is neither 1 nor 0.
    """
    content_type = headers.get(b"content-type", b"")
    require_json(content_type)
    version = headers.get(b"x-model-version")
    return RequestOptions(
        _wants_detail(query),
        _timeout_s(headers, limit_s),
        version.decode("latin-1") if version is not None else None,
        event_key(headers, request_id),
        SCRATCH in headers and _wants_scratch(headers[SCRATCH]),
        bool(query) and _wants_explanation(query),
    )


def read_request_id(headers: Headers) -> str:
    """Return the client's request id if it is 1 to 128 printable ASCII characters, else a new random one."""
    # The id goes into logs and a response header: control characters could forge lines in either.
    sent = headers.get(b"x-request-id", b"")
    if 0 < len(sent) <= 128 and sent.isascii() and sent.decode().isprintable():
        return sent.decode()
    return os.urandom(8).hex()


def event_key(headers: Headers, request_id: str) -> str:
    """Return the key of events that name none: the same when the request is sent again, by its client or by HAProxy."""
    attempt, sent = headers.get(_ATTEMPT), headers.get(b"x-request-id")
    if attempt is None or (sent is not None and sent == request_id.encode()):
        return request_id
    return attempt.decode("latin-1")[:200]


def require_json(content_type: bytes) -> None:
    """Raise HttpProblem (415) unless the content type is JSON in UTF-8."""
    if content_type == responses.JSON:
        return
    media_type, *parameters = (part.strip().lower() for part in content_type.split(b";"))
    shown = content_type.decode("latin-1")[:100] or "none"
    if media_type != responses.JSON:
        raise HttpProblem(415, "Wrong content type", f"send content-type: application/json, not {shown}")
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        # Read as UTF-8, some text of another encoding is other text, and no error.
        if name.strip() == b"charset" and value.strip(b' "') not in _UTF8:
            raise HttpProblem(415, "Wrong content type", f"JSON is read as UTF-8; send it so, not as {shown}")


def _wants_detail(query: bytes) -> bool:
    return bool(query) and parse_qs(query.decode("latin-1")).get("detail", ["0"])[-1].lower() in _TRUE


def _wants_explanation(query: bytes) -> bool:
    value = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("explain", ["0"])[-1]
    # Refused rather than left out: who does not get the reasons that it asked for is to know.
    if value.lower() not in (*_TRUE, *_FALSE):
        raise HttpProblem(400, "Wrong query", f"explain is 1 or 0, or left out; got {value[:40]!r}")
    return value.lower() in _TRUE


def _wants_scratch(value: bytes) -> bool:
    if value != b"1":
        shown = value.decode("latin-1")[:40]
        raise HttpProblem(400, "Wrong header", f"{SCRATCH.decode()} is 1, or left out; got {shown!r}")
    return True


def _timeout_s(headers: Headers, limit_s: float) -> float:
    milliseconds = headers.get(b"x-request-timeout-ms")
    if milliseconds is None:
        return limit_s
    if not milliseconds.isdigit() or len(milliseconds) > _TIMEOUT_DIGITS or int(milliseconds) == 0:
        shown = milliseconds.decode("latin-1")[:40]
        raise HttpProblem(
            400, "Wrong timeout", f"x-request-timeout-ms takes whole milliseconds from 1 on, not {shown!r}"
        )
    return min(int(milliseconds) / 1000, limit_s)
