"""Free TCP ports that no outgoing connection can take before a server listens on them.

The kernel assigns the local ports of outgoing connections from its ephemeral range, from 32768 up on Linux: a port of
that range that is free now may belong to a client in the next moment. Ports chosen here lie below that range, and
outside those that Ray (10002 to 19999) and Ray Serve (30000 to 31000) assign to workers and replicas.
"""

from __future__ import annotations

import random
import socket

_PORTS = (20_000, 30_000)
_handed_out: set[int] = set()


def free_port() -> int:
    """Choose a random port that is free at every IPv4 address; this process never gets the same one twice."""
    while True:
        # Not the module's generator: two processes with the same random seed would choose the same port.
        port = random.SystemRandom().randrange(*_PORTS)
        if port not in _handed_out and is_free(port):
            _handed_out.add(port)
            return port


def is_free(port: int) -> bool:
    """True when a server could bind the port now, at every IPv4 address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
