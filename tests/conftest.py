"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support_cassandra import cassandra_node as cassandra_node
from tests.support_cassandra import pytest_runtest_setup as pytest_runtest_setup

os.environ.setdefault("RAY_AUTH_MODE", "disabled")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One small Ray cluster for every test that needs one, started at first use."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=150_000_000, log_to_driver=False)
    yield
    ray.shutdown()
