"""Frames of a link: how calls and answers are cut out of a byte stream.

A frame is a 13-byte header (kind, call id, budget in milliseconds, payload length; little-endian) and
the payload. A peer that sends anything else is cut off: there is no way back into step on a stream.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from data.errors import RayscoreError

PROTOCOL = 1
MAX_PAYLOAD = 16 * 1024 * 1024
MAX_HELLO = 4096
"""Largest payload of a peer that has not been welcomed yet."""

_HEADER = struct.Struct("<BIII")


class FrameKind(IntEnum):
    """What a frame is. A connection starts with HELLO, answered by WELCOME or REFUSED."""

    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    CALL = 4
    ANSWER = 5
    FAILED = 6


_KINDS = frozenset(FrameKind)


class BadFrame(RayscoreError):
    """The peer sent what is not a frame; the connection cannot be used on."""


class Frame(NamedTuple):
    """One frame; `budget_ms` is the time a call may take, 0 on every other kind."""

    kind: int
    call_id: int
    budget_ms: int
    payload: bytes


def encode(kind: FrameKind, call_id: int, payload: bytes, budget_ms: int = 0) -> bytes:
    """Return a frame's bytes; raises BadFrame when the payload is larger than MAX_PAYLOAD."""
    if len(payload) > MAX_PAYLOAD:
        raise BadFrame(f"payload of {len(payload):,} bytes, at most {MAX_PAYLOAD:,} fit a frame")
    return _HEADER.pack(kind, call_id, budget_ms, len(payload)) + payload


class FrameReader:
    """Cuts a stream into frames. Holds at most one incomplete frame of `max_payload` bytes, which may be set anew."""

    def __init__(self, max_payload: int = MAX_PAYLOAD) -> None:
        self.max_payload = max_payload
        self._begun = bytearray()
        """The incomplete frame, as far as it came."""
        self._needed = 0
        """Bytes that there must be of it before a look is worth it: its header, then all of it."""

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes, in order.

        Raises:
            BadFrame: an unknown kind or a payload over the limit, said by the header alone.
        """
        if not self._begun:
            return self._cut(data)
        # Appended in place, and cut once it is whole: to join anew for every chunk would copy a large frame as often
        # as it has chunks.
        self._begun += data
        return self._cut(self._begun) if len(self._begun) >= self._needed else []

    def _cut(self, buffer: bytes | bytearray) -> list[Frame]:
        frames: list[Frame] = []
        at, end, needed = 0, len(buffer), _HEADER.size
        while end - at >= _HEADER.size:
            kind, call_id, budget_ms, length = _HEADER.unpack_from(buffer, at)
            if kind not in _KINDS:
                raise BadFrame(f"kind {kind} is none of this protocol's")
            if length > self.max_payload:
                raise BadFrame(f"payload of {length:,} bytes, at most {self.max_payload:,} are taken")
            needed = _HEADER.size + length
            if at + needed > end:
                break
            frames.append(Frame(kind, call_id, budget_ms, bytes(buffer[at + _HEADER.size : at + needed])))
            at, needed = at + needed, _HEADER.size
        self._begun, self._needed = bytearray(buffer[at:]), needed
        return frames
