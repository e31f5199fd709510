"""Helpers of all deployments: the replica's id, its agent, its busy share, its events, its heap, the health of
its store."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from data.errors import RayscoreError
from ray_app.control.replicas.autoscaling import BUSY, BusyMeter
from ray_app.control.replicas.replica_agent import ReplicaAgent, VersionHolder
from ray_app.deployments.control_client import ControlClient
from ray_app.deployments.replica_spec import ReplicaSpec
from ray_app.inference.features.feature_fetch import LocalFeatures
from ray_app.inference.stages import FeatureStage
from ray_app.monitoring.recent_events import EVENT_COUNTS

_BUSY_WINDOW_S = 0.5


async def start_agent(
    spec: ReplicaSpec,
    kind: str,
    holder: VersionHolder,
    control: DeploymentHandle | None,
    extras: Mapping[str, Callable[[], Any]],
) -> ReplicaAgent | None:
    """Start the replica's agent and wait until the versions that Control directs are loaded; None without Control."""
    if control is None:
        return None
    contract, client = spec.manifest.contract, ControlClient(control)
    agent = ReplicaAgent(replica_id(), kind, contract, holder, client, {**extras, BUSY: busy()})
    await agent.start()
    return agent


def busy() -> Callable[[], float]:
    """Return a function that reads this process's busy share; within half a second it repeats the last reading."""
    return BusyMeter(least_s=_BUSY_WINDOW_S).read


def event_reports(features: FeatureStage | None) -> dict[str, Callable[[], Any]]:
    """Return what a replica that reads and records events itself adds to its reports to Control, by name."""
    windows = features.windows if isinstance(features, LocalFeatures) else None
    return {EVENT_COUNTS: windows.counts} if windows is not None else {}


def replica_id() -> str:
    """Return the id that Serve gave this replica."""
    return serve.get_replica_context().replica_tag


def freeze_heap() -> None:
    """Take what this process has loaded out of the sight of the garbage collector, once it is ready to answer.

    Imports and models are over 150,000 objects, and a full collection of them holds up every request for some 100 ms.
    It comes the more often the more objects requests make: every few seconds under load.
    """
    gc.collect()
    gc.freeze()


async def store_problem(features: LocalFeatures) -> str | None:
    """Return what is wrong with the store, None when it answers."""
    try:
        await features.ping()
    except RayscoreError as exc:
        return str(exc)
    return None
