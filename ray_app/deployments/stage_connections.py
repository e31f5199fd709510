"""How a gateway reaches a stage, and where a stage can be reached: direct links, or Serve's handle."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import ray
from ray.serve.handle import DeploymentHandle

from data.settings import Settings
from ray_app.deployments.replica_spec import ReplicaSpec
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.transport.connection_pool import LinkPool, Transport
from ray_app.transport.replica_discovery import subscribe
from ray_app.transport.serve_handle import by_handle


class StageConnection(NamedTuple):
    """A stage as a gateway sees it: how to call it, and how many replicas it can call."""

    transport: Transport
    replicas: Callable[[], int]


def reach(
    handle: DeploymentHandle,
    served: ReplicaSpec,
    metrics: GatewayMetrics,
    elsewhere: Callable[[bytes], bool] = lambda answer: False,
) -> StageConnection:
    """Reach a stage; an answer of which `elsewhere` is true has the call go to another replica."""
    fallback = by_handle(handle)
    if not served.settings.direct_links:
        return StageConnection(fallback, lambda: 1)
    name = handle.deployment_name
    count, note = metrics.count_calls(name), metrics.count_link_events(name)
    links = LinkPool(name, served.hello(name).encode(), fallback, count, elsewhere, on_link_event=note)
    metrics.watch_links(name, links)
    subscribe(name, links.update_threadsafe)
    return StageConnection(links.call, lambda: links.open_links)


def link_host(settings: Settings) -> str:
    """The address that a replica listens on for links."""
    if settings.link_host != "auto":
        return settings.link_host
    alone = sum(node["Alive"] for node in ray.nodes()) == 1
    if alone and settings.http_host in ("127.0.0.1", "localhost", "::1"):
        return "127.0.0.1"
    return ray.util.get_node_ip_address()
