"""The wire format of links: a stream of frames, one for each call or answer.

A frame is a header of 13 bytes (little-endian: kind uint8, call id uint32, time budget in milliseconds uint32, payload
length uint32), then the payload. Bytes that are no frame end the connection, because nothing in the stream marks where
the next frame starts.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from data.errors import RayscoreError

PROTOCOL = 1
"""Version of the protocol, compared in the handshake."""
MAX_PAYLOAD = 16 * 1024 * 1024
"""Largest payload of a frame, in bytes."""
MAX_HELLO = 4096
"""Largest payload that a peer may send before its handshake was accepted, in bytes."""

_HEADER = struct.Struct("<BIII")


class FrameKind(IntEnum):
    """Kind of a frame.

    The gateway sends HELLO first, which the replica answers with WELCOME or REFUSED. Then the gateway sends CALLs, each
    answered with ANSWER or FAILED under the same call id, in any order.
    """

    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    CALL = 4
    ANSWER = 5
    FAILED = 6


_KINDS = frozenset(FrameKind)


class BadFrame(RayscoreError):
    """Bytes that are not a frame, or a payload that is too large for one."""


class Frame(NamedTuple):
    """One frame; `budget_ms` is the time allowed for a CALL, 0 for every other kind."""

    kind: int
    call_id: int
    budget_ms: int
    payload: bytes


def encode(kind: FrameKind, call_id: int, payload: bytes, budget_ms: int = 0) -> bytes:
    """Return a frame's bytes.

    Raises:
        BadFrame: the payload is larger than MAX_PAYLOAD.
    """
    if len(payload) > MAX_PAYLOAD:
        raise BadFrame(f"payload of {len(payload):,} bytes, at most {MAX_PAYLOAD:,} fit a frame")
    return _HEADER.pack(kind, call_id, budget_ms, len(payload)) + payload


class FrameReader:
    """Splits a byte stream into frames; holds at most one incomplete frame.

    `max_payload` is the largest payload accepted, in bytes; it may be changed between calls of `feed`.
    """

    def __init__(self, max_payload: int = MAX_PAYLOAD) -> None:
        self.max_payload = max_payload
        self._partial = bytearray()
        """Received bytes of the incomplete frame."""
        self._needed = 0
        """Length that `_partial` must reach before it is parsed again: a whole header, then a whole frame."""

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes, in order.

        Raises:
            BadFrame: a header has an unknown kind or a payload length over the limit.
        """
        if not self._partial:
            return self._split(data)
        # Append in place and parse once the frame is complete: joining old and new bytes for every chunk would copy a
        # large frame as many times as it has chunks.
        self._partial += data
        return self._split(self._partial) if len(self._partial) >= self._needed else []

    def _split(self, buffer: bytes | bytearray) -> list[Frame]:
        frames: list[Frame] = []
        start, end, needed = 0, len(buffer), _HEADER.size
        while end - start >= _HEADER.size:
            kind, call_id, budget_ms, length = _HEADER.unpack_from(buffer, start)
            # Checked before the payload has arrived, so that a hostile peer cannot make this process buffer it.
            if kind not in _KINDS:
                raise BadFrame(f"kind {kind} is none of this protocol's")
            if length > self.max_payload:
                raise BadFrame(f"payload of {length:,} bytes, at most {self.max_payload:,} are taken")
            needed = _HEADER.size + length
            if start + needed > end:
                break
            frames.append(Frame(kind, call_id, budget_ms, bytes(buffer[start + _HEADER.size : start + needed])))
            start, needed = start + needed, _HEADER.size
        self._partial, self._needed = bytearray(buffer[start:]), needed
        return frames
