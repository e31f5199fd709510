"""A Serve request router that tells the gateway's connection pools which replicas there are.

Serve runs the router in each gateway and updates it at every change of the replicas. It pickles this module by value
into the gateway, however the configuration names the class, so module state here would be a copy that nobody else
sees: the router publishes through `replica_discovery` instead.
"""

from __future__ import annotations

from ray.serve._private.request_router.pow_2_router import PowerOfTwoChoicesRequestRouter
from ray.serve.request_router import RunningReplica

from ray_app.transport import replica_discovery
from ray_app.transport.connection_pool import Address

HOST, PORT = "link_host", "link_port"
"""Keys of the replica metadata that hold the address for links."""


class LinkRouter(PowerOfTwoChoicesRequestRouter):
    """Serve's default router; also publishes the link address of every replica."""

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Receive Serve's list of running replicas; those without a link address are not published."""
        super().update_replicas(replicas)
        metadata = {replica.replica_id.unique_id: replica.replica_metadata for replica in replicas}
        replica_discovery.publish(
            self._deployment_id.name,
            {replica: Address(values[HOST], values[PORT]) for replica, values in metadata.items() if PORT in values},
        )


ROUTER_PATH = f"{LinkRouter.__module__}.{LinkRouter.__qualname__}"
"""Import path of the router, for a deployment's configuration."""
