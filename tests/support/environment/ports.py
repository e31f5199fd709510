"""TCP ports for tests: as the product's own, but never one that another worker of the same run may give out."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

from ray_app.environment.ports import is_free

_FIRST, _END = 20_000, 30_000
"""Where the product takes its own from, and why (ray_app/environment/ports.py)."""


def free_port() -> int:
    """A port on which nobody listens at any address, given out once in a run.

    Much later it is listened on: between two workers that both draw from all ports this would go wrong now and then.
    """
    return next(port for port in _own if is_free(port))


def _own_ports() -> Iterator[int]:
    """Every port of this worker in any order: with three workers, each third one."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    mine = list(range(_FIRST + worker, _END, workers))
    # Not the process's own numbers: a seeded program would choose what another of its kind has chosen.
    random.SystemRandom().shuffle(mine)
    return iter(mine)


_own = _own_ports()
