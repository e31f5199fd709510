"""One proof in time of a use case at a time: its scratch stores belong to the proof that is under way.

Of files in a folder by a lock of the kernel, in a Cassandra cluster by a lease: a proof that is killed holds neither
for longer than the lease lasts.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from data.errors import StoreError
from data.schema.scratch_name import scratch_name
from data.settings import Settings

logger = logging.getLogger(__name__)


@contextmanager
def proof_lock(settings: Settings, use_case: str) -> Iterator[None]:
    """Keep the scratch stores of a use case to this process inside the block.

    Args:
        settings: those of the service.
        use_case: its name.

    Raises:
        StoreError: another proof has them, which the message names, or got them meanwhile; or the lock cannot be made.
        StoreUnavailable: the cluster does not answer.
    """
    if settings.store == "cassandra":
        # Imported here, so that a process without a cluster needs no driver.
        from data.online_store.cassandra.lease import ClusterLease

        lease = ClusterLease(settings, scratch_name(use_case), _this_process())
        with lease.held() as holder:
            _refuse_held(use_case, holder)
            yield
            if lease.lost_to is not None:
                raise StoreError(
                    f"this proof stood still for over a minute, and another one ({lease.lost_to}) has written into its "
                    "scratch stores meanwhile: prove again"
                )
        return
    with ExitStack() as stack:
        for folder in dict.fromkeys(path.absolute().parent for path in (settings.events_path, settings.sqlite_path)):
            stack.enter_context(_locked(folder / f".{scratch_name(use_case)}.lock", use_case))
        yield


@contextmanager
def _locked(path: Path, use_case: str) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
    except OSError as exc:
        raise StoreError(f"{path}: cannot be made: {exc.strerror}") from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _refuse_held(use_case, path.read_text().strip() or "another process")
        except OSError as exc:
            # Some network file systems have no locks.
            logger.warning("%s cannot be locked (%s): start no other proof of '%s' meanwhile", path, exc, use_case)
        lock.truncate(0)
        lock.write(_this_process())
        lock.flush()
        yield


def _refuse_held(use_case: str, holder: str | None) -> None:
    if holder is not None:
        raise StoreError(
            f"another proof in time of '{use_case}' is under way ({holder}), and both would write into the same "
            "scratch stores: wait for its end"
        )


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
