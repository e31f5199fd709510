"""The connection to Ray: the cluster that RAY_ADDRESS names, else a small local one that ends with the program."""

from __future__ import annotations

import logging
import os
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.job_config import JobConfig

from data.distributed.child_process import PACKAGES
from data.distributed.cluster_address import ADDRESS, LOCAL, GivenAddress, check_answers, refusal

AUTH_MODE = "RAY_AUTH_MODE"
_NICENESS = "RAY_worker_niceness"
_OBJECT_STORE_BYTES = 512 * 1024 * 1024
_LOOK_AGAIN_S = 0.1


def set_auth_mode() -> None:
    """Set RAY_AUTH_MODE to "disabled" for a local cluster, unless the user has set it.

    Unset, the mode depends on whether some earlier program left a token file in the home folder.
    """
    os.environ.setdefault(AUTH_MODE, "disabled")


class WorkerPath(JobConfig):
    """Lets the workers of a job import our packages from where this process did.

    Ray puts the driver's working directory first on the path of its workers, so that a `data.py` there, or a folder
    `data/`, would be imported in place of our package. By the time of the call below Ray has noted its folders, none
    where the job's files came with it (`ray job submit --working-dir`); where the packages are installed, workers find
    them unasked.
    """

    def _serialize(self) -> str:
        if self._py_driver_sys_path:
            installed = str(PACKAGES) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
            self._py_driver_sys_path = [] if installed else [str(PACKAGES)]
        return super()._serialize()


@contextmanager
def cluster(num_cpus: int | None = None) -> Iterator[None]:
    """Connect to Ray for the duration of a `with` block.

    An existing connection is used as it is. A local cluster that is started here ends with the block.

    Args:
        num_cpus: CPUs of a local cluster; None for all of the machine. Ignored when RAY_ADDRESS names a cluster.

    Raises:
        ConfigError: RAY_ADDRESS names a cluster that does not answer or refuses, or Ray does not start here.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get(ADDRESS)
    if not address or address == LOCAL:
        set_auth_mode()
        # At Ray's own niceness of 15 anything else on the machine stalls the workers' threads at every barrier.
        os.environ.setdefault(_NICENESS, "0")
        connect(None, num_cpus=num_cpus, include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES)
    else:
        connect(GivenAddress(address))
    try:
        yield
    finally:
        ray.shutdown()


def connect(given: GivenAddress | None, **options: Any) -> None:
    """Connect this process to a cluster, or start one on this machine; `ray.shutdown` ends it.

    Args:
        given: address of a cluster that runs; None starts one here.
        options: of `ray.init`.

    Raises:
        ConfigError: the cluster does not answer or refuses, or Ray does not start.
    """
    if given:
        check_answers(given)
    # A client of ray:// leaves its job to a server elsewhere, which could not read a class of ours.
    if not given or not given.address.startswith("ray://"):
        options["job_config"] = WorkerPath()
    options = {"logging_level": logging.ERROR, "log_to_driver": False, **options}
    try:
        ray.init(address=given.address if given else LOCAL, **options)
    except KeyboardInterrupt:
        ray.shutdown()
        raise
    # Ray raises bare exceptions where a node does not start, and ends the process where a cluster is lost.
    except (Exception, SystemExit) as exc:
        ray.shutdown()
        raise refusal(exc, given) from exc


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
