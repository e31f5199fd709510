"""Where the request router of a gateway's process writes down which replicas there are, and link sets read it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from ray_app.transport.connection_pool import Address

Listener = Callable[[Mapping[str, Address]], None]

_lock = threading.Lock()
_listeners: dict[str, Listener] = {}
_latest: dict[str, Mapping[str, Address]] = {}


def publish(deployment: str, members: Mapping[str, Address]) -> None:
    """Write down a deployment's replicas by their ids, and tell the listener."""
    with _lock:
        _latest[deployment] = members
        # Told within the lock, so that no older list overtakes a newer one.
        if listener := _listeners.get(deployment):
            listener(members)


def subscribe(deployment: str, listener: Listener) -> None:
    """Have `listener` told of a deployment's replicas, now and at every change, on the publisher's thread."""
    with _lock:
        _listeners[deployment] = listener
        if (latest := _latest.get(deployment)) is not None:
            listener(latest)
