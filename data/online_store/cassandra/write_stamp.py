"""The write stamp: 8 bytes before a stored payload, by which Cassandra keeps the row that was written last.

Of two cells with one timestamp, which is the event time, Cassandra keeps the one that expires later, and of two that
expire in the same second, or never, the one with the larger value bytewise. The stamp makes the later one the larger.
"""

from __future__ import annotations

import threading
import time

_STAMP_BYTES = 8


class WriteClock:
    """Gives out stamps, each larger than those before it. Thread-safe.

    Stamps of different processes follow the clocks of their machines.
    """

    def __init__(self) -> None:
        self._last_us = 0
        self._lock = threading.Lock()

    def stamp(self) -> bytes:
        """Return the current time, 8 bytes: microseconds since 1970, big-endian, so that bytes compare as numbers."""
        with self._lock:
            self._last_us = max(self._last_us + 1, time.time_ns() // 1000)
            return self._last_us.to_bytes(_STAMP_BYTES, "big")


def payload_of(stored: bytes) -> bytes:
    """Return the payload of a stored value: what follows the stamp."""
    return stored[_STAMP_BYTES:]
