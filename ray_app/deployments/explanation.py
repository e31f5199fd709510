"""The deployment `Explanation`, which says what made a score, and a gateway's connection to it.

Apart from the model's, so that model replicas stay light (no XGBoost) and fast: explaining a row takes
as long as scoring hundreds.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from ray.serve.handle import DeploymentHandle

from ray_app.control.messages import EXPLANATION
from ray_app.deployments.metrics.explanation_metrics import ExplanationMetrics
from ray_app.deployments.replica import freeze_heap, replica_id, start_agent
from ray_app.deployments.replica_spec import ReplicaSpec
from ray_app.deployments.stage_connections import connect_stage
from ray_app.deployments.stages import Stage
from ray_app.inference.explanation.answer_explainer import ExplanationParts
from ray_app.inference.explanation.explanation_stage import (
    ExplanationServer,
    RemoteExplanation,
    is_unexplained_version,
    load_explainer,
)
from ray_app.inference.models.model_cache import ModelCache
from ray_app.monitoring.explanation_outcomes import ExplanationOutcomes
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.monitoring.scrape import PAGE
from ray_app.transport.serve_handle import method_of, ping
from tune.registry.bundle import Bundle


class Explanation(Stage):
    """Explains rows for gateways, by any of the model versions that it has loaded."""

    async def __init__(self, spec: ReplicaSpec, control: DeploymentHandle | None) -> None:
        explainers = ModelCache(spec.rules, spec.bundles(), load_explainer)
        page = self._open(
            spec,
            ExplanationServer(explainers.model).call,
            lambda replica: ExplanationMetrics(replica, explainers.held, explainers.model),
        )
        self._agent = await start_agent(spec, EXPLANATION, explainers, control, {PAGE: page})
        if self._agent is not None:
            self._watch(self._agent.loop)
        freeze_heap()

    async def ping(self) -> str | None:
        """Return None, for no problem: a replica that runs has loaded its boosters."""
        return None


class ExplanationConnection(NamedTuple):
    """What a gateway's versions explain answers by, and the call by which Serve tells of the replicas."""

    parts: ExplanationParts
    first_call: asyncio.Task[str | None]


def connect_explanation(
    handle: DeploymentHandle | None, spec: ReplicaSpec, metrics: GatewayMetrics
) -> ExplanationConnection | None:
    """Connect a gateway to the explanation replicas; None where the use case declares no reason codes."""
    if handle is None or spec.reasons is None:
        return None
    connection = connect_stage(handle, spec, metrics, is_unexplained_version)

    def stage(bundle: Bundle) -> RemoteExplanation:
        return RemoteExplanation(connection.transport, bundle.digest)

    parts = ExplanationParts(
        spec.reasons,
        stage,
        ExplanationOutcomes(metrics.registry, replica_id()),
        spec.settings.explanation_timeout_ms / 1000,
        spec.settings.queue_limit,
        connection.replicas,
    )
    # Serve tells a process about a deployment's replicas from its first call on. No answer waits for it.
    first_call = asyncio.get_running_loop().create_task(ping(method_of(handle, "ping")))
    return ExplanationConnection(parts, first_call)
