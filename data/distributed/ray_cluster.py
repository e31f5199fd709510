"""The connection to Ray: the cluster that RAY_ADDRESS names, else a small local one that ends with the program."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private.state import available_resources_per_node

from data.errors import ConfigError

AUTH_MODE = "RAY_AUTH_MODE"
_NICENESS = "RAY_worker_niceness"
_OBJECT_STORE_BYTES = 512 * 1024 * 1024
_LOOK_AGAIN_S = 0.1


def set_auth_mode() -> None:
    """Set RAY_AUTH_MODE to "disabled" for a local cluster, unless the user has set it.

    Unset, the mode depends on whether some earlier program left a token file in the home folder.
    """
    os.environ.setdefault(AUTH_MODE, "disabled")


@contextmanager
def cluster(num_cpus: int | None = None) -> Iterator[None]:
    """Connect to Ray for the duration of a `with` block.

    An existing connection is used as it is. A local cluster that is started here ends with the block.

    Args:
        num_cpus: CPUs of a local cluster; None for all of the machine. Ignored when RAY_ADDRESS names a cluster.

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


def free_cpus(wanted: int | None = None, patience_s: float = 30.0) -> list[int]:
    """The free CPUs of each node; what ran just before may take some seconds to give back its own.

    Args:
        wanted: look again until so many are free in all; by default until every CPU of the cluster is.
        patience_s: after this many seconds the answer is what is free, however little.
    """
    deadline = time.monotonic() + patience_s
    while True:
        # Ray has no public way to ask for the free resources of each node; its own libraries ask so.
        free = [int(node.get("CPU", 0)) for node in available_resources_per_node().values()]
        enough = int(ray.cluster_resources().get("CPU", 0)) if wanted is None else wanted
        if sum(free) >= enough or time.monotonic() > deadline:
            return free
        time.sleep(_LOOK_AGAIN_S)
