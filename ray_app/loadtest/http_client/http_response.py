"""A minimal parser of HTTP/1.1 responses: the status, and where the response ends.

The load generator needs no more, and an HTTP library costs ms in the event loop that has to send on time.
"""

from __future__ import annotations

from typing import NamedTuple

from data.errors import RayscoreError

_HTTP = b"HTTP/1."
_MAX_HEAD = 65_536


class BadResponse(RayscoreError):
    """The received bytes are not an HTTP/1 response."""


class Response(NamedTuple):
    """A complete response; its body is `received[start:end]`."""

    status: int
    start: int
    end: int
    keep_alive: bool


def parse(received: bytes, closed: bool = False) -> Response | None:
    """Parse all bytes received for a response; None while it is incomplete.

    Args:
        received: bytes since the request was sent.
        closed: True when the peer has closed, which ends a body that declares no length.

    Raises:
        BadResponse: not HTTP/1, or a malformed status or length.
    """
    head_end = received.find(b"\r\n\r\n")
    if not received.startswith(_HTTP[: len(received)]) or (head_end < 0 and len(received) > _MAX_HEAD):
        raise BadResponse(f"not an HTTP/1 answer: {received[:40]!r}")
    if head_end < 0:
        return None
    # Including the line break of the last header field, so that every field ends with one.
    head = received[: head_end + 2].lower()
    status = _number(head[9:12], 10)
    keep_alive = b"\r\nconnection: close\r\n" not in head and head.startswith(b"http/1.1")
    start = head_end + 4
    if status in (204, 304):
        return Response(status, start, start, keep_alive)
    length = _field(head, b"\r\ncontent-length:")
    if length is not None:
        end: int | None = start + _number(length, 10)
    elif b"chunked" in (_field(head, b"\r\ntransfer-encoding:") or b""):
        end = _end_of_chunks(received, start)
    else:
        end, keep_alive = (len(received) if closed else None), False
    return None if end is None or end > len(received) else Response(status, start, end, keep_alive)


def _field(head: bytes, name: bytes) -> bytes | None:
    at = head.find(name)
    return None if at < 0 else head[at + len(name) : head.index(b"\r\n", at + 2)]


def _number(digits: bytes, base: int) -> int:
    digits = digits.strip()
    # int() alone would accept "-1", "+1" and "1_000".
    if not digits.isalnum():
        raise BadResponse(f"{digits!r} is not a number")
    try:
        return int(digits, base)
    except ValueError as exc:
        raise BadResponse(f"{digits!r} is not a number") from exc


def _end_of_chunks(received: bytes, at: int) -> int | None:
    """Offset at which a chunked body ends, trailers included; None while it is incomplete."""
    while (line_end := received.find(b"\r\n", at)) >= 0:
        size = _number(received[at:line_end].partition(b";")[0], 16)
        if size == 0:
            # Searched from this line break on, because the blank line follows at once when there are no trailers.
            end = received.find(b"\r\n\r\n", line_end)
            return None if end < 0 else end + 4
        at = line_end + 2 + size + 2
    return None
