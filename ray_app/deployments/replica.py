"""What replicas of every deployment share: their id, the agent that follows Control, busy share and store problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from data.errors import RayscoreError
from ray_app.control.autoscaling import BUSY, BusyMeter
from ray_app.control.replica_agent import ReplicaAgent, VersionHolder
from ray_app.deployments.control_client import ControlClient
from ray_app.deployments.replica_spec import ReplicaSpec
from ray_app.inference.feature_fetch import LocalFeatures

_BUSY_OVER_S = 0.5


async def follow(
    served: ReplicaSpec,
    kind: str,
    holder: VersionHolder,
    control: DeploymentHandle | None,
    extras: Mapping[str, Callable[[], Any]],
) -> ReplicaAgent | None:
    """Start the agent that follows Control, once the versions it directs are loaded; None without Control."""
    if control is None:
        return None
    contract, client = served.manifest.contract, ControlClient(control)
    agent = ReplicaAgent(replica_id(), kind, contract, holder, client, {**extras, BUSY: busy()})
    await agent.start()
    return agent


def busy() -> Callable[[], float]:
    """A reader of this process's busy share; reports in quick succession repeat the last reading."""
    return BusyMeter(least_s=_BUSY_OVER_S).read


def replica_id() -> str:
    """The id that Serve gave this replica."""
    return serve.get_replica_context().replica_tag


async def problem_of(features: LocalFeatures) -> str | None:
    """What is wrong with the store, None when it answers."""
    try:
        await features.ping()
    except RayscoreError as exc:
        return str(exc)
    return None
