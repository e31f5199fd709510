"""How a gateway learns of replicas: the request router that Serve runs in it sees every change of the list.

Serve pickles this module by value into the gateway, whatever way the class is named in the configuration,
so nothing may be kept here: what the router learns it publishes on the board.
"""

from __future__ import annotations

from ray.serve._private.request_router.pow_2_router import PowerOfTwoChoicesRequestRouter
from ray.serve.request_router import RunningReplica

from ray_app.transport import replica_discovery
from ray_app.transport.connection_pool import Address

HOST, PORT = "link_host", "link_port"
"""Keys of the metadata with which a replica publishes where it listens."""


class LinkRouter(PowerOfTwoChoicesRequestRouter):
    """Serve's default router, which also passes on where the replicas listen for links."""

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Take over Serve's list of running replicas."""
        super().update_replicas(replicas)
        published = {replica.replica_id.unique_id: replica.replica_metadata for replica in replicas}
        replica_discovery.publish(
            self._deployment_id.name,
            {key: Address(said[HOST], said[PORT]) for key, said in published.items() if PORT in said},
        )


ROUTER_PATH = f"{LinkRouter.__module__}.{LinkRouter.__qualname__}"
