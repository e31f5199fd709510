"""Connections from a gateway to a stage: direct links, or Serve's handle."""

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
    """How a gateway calls a stage, and a function that returns how many of its replicas can be called."""

    transport: Transport
    replicas: Callable[[], int]


def connect_stage(
    handle: DeploymentHandle,
    spec: ReplicaSpec,
    metrics: GatewayMetrics,
    retry_elsewhere: Callable[[bytes], bool] = lambda answer: False,
) -> StageConnection:
    """Connect to a stage; an answer for which `retry_elsewhere` is true is asked for again from another replica."""
    fallback = by_handle(handle)
    if not spec.settings.direct_links:
        return StageConnection(fallback, lambda: 1)
    name = handle.deployment_name
    count, note = metrics.count_calls(name), metrics.count_link_events(name)
    links = LinkPool(name, spec.handshake(name).encode(), fallback, count, retry_elsewhere, on_link_event=note)
    metrics.watch_links(name, links)
    subscribe(name, links.update_threadsafe)
    return StageConnection(links.call, lambda: links.open_links)


def link_host(settings: Settings) -> str:
    """Return the IP address that a replica listens on for links."""
    if settings.link_host != "auto":
        return settings.link_host
    single_node = sum(node["Alive"] for node in ray.nodes()) == 1
    # Nobody outside this machine can call it, so links need not listen on the network either.
    if single_node and settings.http_host in ("127.0.0.1", "localhost", "::1"):
        return "127.0.0.1"
    return ray.util.get_node_ip_address()
