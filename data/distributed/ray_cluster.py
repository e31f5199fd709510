"""Connecting to Ray: the cluster that RAY_ADDRESS names, else a small one of our own on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from data.errors import ConfigError

AUTH_MODE = "RAY_AUTH_MODE"
_NICENESS = "RAY_worker_niceness"
_OBJECT_STORE_BYTES = 512 * 1024 * 1024


def set_auth_mode() -> None:
    """Say explicitly that a cluster on this machine needs no token, unless the user said otherwise.

    Without it the mode depends on whether some earlier program left a token file in the home folder.
    """
    os.environ.setdefault(AUTH_MODE, "disabled")


@contextmanager
def cluster(num_cpus: int | None = None) -> Iterator[None]:
    """Be connected to Ray inside the block; a cluster that was started here is ended with it.

    Raises:
        ConfigError: RAY_ADDRESS names a cluster that does not answer.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        set_auth_mode()
        # At Ray's own niceness of 15 anything else on the machine stalls the workers' threads at every barrier.
        os.environ.setdefault(_NICENESS, "0")
    own = (
        {}
        if address
        else {"num_cpus": num_cpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    )
    try:
        ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **own)
    except (ConnectionError, RuntimeError, ValueError) as exc:
        raise ConfigError(f"no Ray cluster at RAY_ADDRESS={address}: {exc}") from exc
    try:
        yield
    finally:
        ray.shutdown()
