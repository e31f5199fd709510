"""The one Ray cluster that these tests have between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="package")
def ray_cluster() -> Iterator[None]:
    """One small Ray cluster for the tests of this folder, started at first use and ended with the last of them."""
    import ray

    _start(ray, tries=4)
    # It follows every file of every worker, for nobody, and takes a tenth of a CPU for it.
    ray._private.worker._global_node.kill_log_monitor()
    yield
    ray.shutdown()


def _start(ray: Any, tries: int) -> None:
    """Start a cluster; once more where the machine was too busy for the 30 s that Ray allows for it."""
    options = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 150_000_000, "log_to_driver": False}
    try:
        ray.init(address="local", **options)
    except Exception as exc:
        # Ray has no type of its own for this.
        if tries == 1 or "timed out during startup" not in str(exc):
            raise
        ray.shutdown()
        _start(ray, tries - 1)
