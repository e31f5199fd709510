"""The addresses of each deployment's replicas, from Serve's request router to the connection pools of the process.

This state is in a module of its own because Serve pickles the module of a request router by value.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from ray_app.transport.connection_pool import Address

Listener = Callable[[Mapping[str, Address]], None]

_lock = threading.Lock()
_listeners: dict[str, Listener] = {}
_latest: dict[str, Mapping[str, Address]] = {}


def publish(deployment: str, members: Mapping[str, Address]) -> None:
    """Store the addresses of a deployment's replicas, by replica id, and call its listener."""
    with _lock:
        _latest[deployment] = members
        # Called within the lock, so that an older list cannot reach the listener after a newer one.
        if listener := _listeners.get(deployment):
            listener(members)


def subscribe(deployment: str, listener: Listener) -> None:
    """Call `listener` with the deployment's replicas at every change, on the publisher's thread, and now if known.

    A deployment has one listener: another one replaces it.
    """
    with _lock:
        _listeners[deployment] = listener
        if (latest := _latest.get(deployment)) is not None:
            listener(latest)
