"""Builds the Serve application: its deployments, the handles that each gets, and how each is scaled."""

from __future__ import annotations

from functools import partial
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig
from ray.serve.schema import LoggingConfig

from data.settings import Settings
from ray_app.deployments.explanation import Explanation
from ray_app.deployments.gateway import Fused, Gateway
from ray_app.deployments.ingress.direct_ingress import ENVIRONMENT as DIRECT_INGRESS_ENVIRONMENT
from ray_app.deployments.replica_spec import ReplicaSpec
from ray_app.deployments.stages import FeatureFetch, Model, Stage
from ray_app.transport.request_router import ROUTER_PATH

_INGRESS_ONGOING = 2000
_POLICY = "ray_app.control.replicas.autoscaling:BusyShareAutoscaling"


def build(spec: ReplicaSpec, control: Application | None = None, *, fused: bool = False) -> Application:
    """Build the application, `fused` with all of it in one deployment. Without `control` the versions never change."""
    s = spec.settings
    stage = partial(_deployment, settings=s, ongoing=64)
    explanation = None
    if spec.reasons is not None:
        explainer = stage(Explanation, low=s.explanation_min_replicas, high=s.explanation_max_replicas)
        explanation = explainer.bind(spec, control)
    if fused:
        gateway = _deployment(Fused, s, s.gateway_min_replicas, s.gateway_max_replicas, _INGRESS_ONGOING)
        return gateway.bind(spec, explanation, control)
    features = stage(FeatureFetch, low=s.feature_min_replicas, high=s.feature_max_replicas).bind(spec, control)
    model = stage(Model, low=s.model_min_replicas, high=s.model_max_replicas).bind(spec, control)
    gateway = _deployment(Gateway, s, s.gateway_min_replicas, s.gateway_max_replicas, _INGRESS_ONGOING)
    return gateway.bind(spec, features if spec.manifest.looks_up else None, model, explanation, control)


def _deployment(kind: type, settings: Settings, low: int, high: int, ongoing: int) -> Any:
    # Of an explanation replica half, so that one replica of each kind still fits one CPU.
    cpus = settings.replica_cpus / 2 if kind is Explanation else settings.replica_cpus
    actor: dict[str, Any] = {"num_cpus": cpus}
    options: dict[str, Any] = {}
    if issubclass(kind, Stage):
        options = {"request_router_config": RequestRouterConfig.model_validate({"request_router_class": ROUTER_PATH})}
    elif settings.direct_ingress:
        actor["runtime_env"] = {"env_vars": DIRECT_INGRESS_ENVIRONMENT}
    return serve.deployment(
        kind,
        name=kind.__name__,
        max_ongoing_requests=ongoing,
        ray_actor_options=actor,
        # Links leave a dead replica at once, but it is replaced when its next check fails.
        health_check_period_s=2,
        graceful_shutdown_timeout_s=5,
        logging_config=LoggingConfig(log_level=settings.log_level, enable_access_log=False),
        autoscaling_config=AutoscalingConfig(
            min_replicas=low,
            max_replicas=max(low, high),
            metrics_interval_s=0.5,
            look_back_period_s=3,
            upscale_delay_s=settings.upscale_delay_s,
            downscale_delay_s=settings.downscale_delay_s,
            # Serve sees neither what reaches a stage by a link nor what a gateway answers past it.
            policy=AutoscalingPolicy(policy_function=_POLICY, policy_kwargs={"target_busy": settings.target_busy}),
        ),
        **options,
    )
