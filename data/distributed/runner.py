"""Where the steps over a table's blocks run: in this process where the table is small, else on Ray. Chosen here alone.

Starting a local cluster takes 10 s and more, importing Ray and Ray Data another 2 s: neither is paid for a small table.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from data.distributed.pieces import ANYWHERE, Pieces, Placement, Runner, each_block_here

logger = logging.getLogger(__name__)

SMALL_ROWS = 250_000
"""Most rows of a table that this process works through by itself: some seconds' work, less than Ray takes to start."""


@contextmanager
def runner(pieces: Pieces[Any], placement: Placement = ANYWHERE) -> Iterator[Runner]:
    """Yield what runs steps over some pieces: the cluster that RAY_ADDRESS names, or a local one, which ends with this.

    What is small, or a single piece, is run by this process, unless it is connected to Ray already. The blocks and the
    steps are the same either way, and so is what comes of them.

    Raises:
        ConfigError: RAY_ADDRESS names a cluster that does not answer.
    """
    small = len(pieces.pieces) <= 1 or (pieces.rows is not None and pieces.rows <= SMALL_ROWS)
    if small and not placement.labels and not _connected():
        yield each_block_here
        return
    with _cluster():
        # By name: imported as usual, it would load Ray for whoever asks where to run.
        ray_data = importlib.import_module("data.distributed.ray_data")
        if not ray_data.has_node(placement):
            labels = ", ".join(f"{key}={value}" for key, value in placement.labels.items())
            logger.warning("no node of the cluster has the label %s: waiting for one, Ctrl-C ends", labels)
        yield partial(ray_data.each_block, placement=placement)


def cluster_for(rows: int) -> AbstractContextManager[None]:
    """Return what connects to Ray for the duration of a `with` block where a table has more rows than `SMALL_ROWS`.

    It raises ConfigError as `data.distributed.ray_cluster.cluster`. Runners in the block share the connection.
    """
    return nullcontext() if rows <= SMALL_ROWS else _cluster()


def _cluster() -> AbstractContextManager[None]:
    return importlib.import_module("data.distributed.ray_cluster").cluster()


def _connected() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()
