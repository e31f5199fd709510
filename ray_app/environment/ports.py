"""TCP ports that stay free until they are used.

The kernel takes the ports of outgoing connections from a range of its own, from 32768 up on Linux: a port of that
range that is free now may be a client's in the next moment. These come from below it, and from beside those that Ray
(10002 to 19999) and Ray Serve (30000 to 31000) give to workers and replicas.
"""

from __future__ import annotations

import random
import socket

_PORTS = (20_000, 30_000)
_given: set[int] = set()


def free_port() -> int:
    """A port on which nobody listens at any address, never given out by this process before."""
    while True:
        # Not the process's own numbers: a seeded program would choose what another of its kind has chosen.
        port = random.SystemRandom().randrange(*_PORTS)
        if port not in _given and is_free(port):
            _given.add(port)
            return port


def is_free(port: int) -> bool:
    """True when a server could listen there now, at every IPv4 address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
