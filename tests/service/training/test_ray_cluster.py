"""What a cluster has free."""

from __future__ import annotations

import pytest
import ray

from data.distributed.ray_cluster import free_cpus
from tests.support.environment.waiting import wait_for

pytestmark = pytest.mark.ray


@ray.remote(num_cpus=1)
class Holder:
    """Holds a CPU as long as it lives."""

    def ready(self) -> bool:
        """True once it has its CPU."""
        return True


def test_free_cpus_are_counted_by_node_once_enough_are_given_back(ray_cluster: None):
    """What is held is not free; one is enough for who wants one; and who wants all waits for what is given back."""
    assert free_cpus() == [2]
    holder = Holder.remote()
    assert ray.get(holder.ready.remote())
    wait_for(lambda: free_cpus(patience_s=0.0) == [1], "the cluster to count what is held")
    assert free_cpus(wanted=1) == [1]
    ray.kill(holder)
    assert free_cpus() == [2]
