"""Builds the application that `serve run ray_app:graph` and `serve run ray_app:fused` import."""

from __future__ import annotations

import logging
import sys
from typing import Any, NamedTuple

import ray
from click.core import ParameterSource
from ray.dashboard.modules.dashboard_sdk import parse_runtime_env_args
from ray.serve import Application
from ray.serve.scripts import run as serve_run

from data.cli.terminal import ended
from data.distributed.cluster_address import ADDRESS, LOCAL, GivenAddress
from data.distributed.ray_cluster import connect, set_auth_mode
from data.errors import ConfigError
from data.settings import Settings, load_settings
from ray_app.control.replicas.served_models import find_served
from ray_app.deployments import cluster_environment
from ray_app.deployments.control import control
from ray_app.deployments.graph_builder import build
from ray_app.deployments.ingress import http_listener
from ray_app.deployments.replica_spec import make_replica_spec
from ray_app.environment import serve_environment

_NAMESPACE = "serve"


def application(*, fused: bool = False) -> Application:
    """Build the application that serves the registry's champion by its traffic rules.

    In the `serve run` command this also connects to Ray, and starts Serve there on the settings' host and port. There
    any error ends the command with a message and exit code 2; elsewhere it is raised.
    """
    if not serve_environment.in_serve_run() or ray.is_initialized():
        settings = load_settings()
        # A Serve config file is built in the cluster, where the file's own host and port are in force.
        if ray.is_initialized():
            http_listener.check_running(settings)
        return _application(settings, fused)
    try:
        return _serve_run(fused)
    except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001  the command ends here, with the last handler's message
        sys.exit(ended(exc, sys.argv[1:]))


def _serve_run(fused: bool) -> Application:
    settings = load_settings()
    asked = _asked()
    http_listener.check_no_other_host(settings, serve_environment.given())
    if asked.cluster is None:
        # Before anything is looked up or started.
        http_listener.check_free(settings, serve_environment.own_variables())
    app = _application(settings, fused)
    if asked.cluster is None:
        start_local(settings, asked.runtime_env)
    else:
        _join(asked.cluster, settings, asked.runtime_env)
    return app


def _join(cluster: GivenAddress, settings: Settings, runtime_env: dict[str, Any] | None) -> None:
    """Connect to a running cluster, and start Serve there on the settings' host and port."""
    connect(cluster, namespace=_NAMESPACE, runtime_env=runtime_env, logging_level=logging.WARNING, log_to_driver=True)
    variables = cluster_environment.read_variables()
    cluster_environment.check_given(serve_environment.given(), variables, cluster)
    # A client of ray:// is outside of the cluster, whose ports are not this machine's.
    http_listener.start(settings, None if cluster.address.startswith("ray://") else variables)


def start_local(settings: Settings, runtime_env: dict[str, Any] | None = None) -> None:
    """Start Ray on this machine, with its dashboard, and Serve on the settings' host and port.

    Args:
        settings: of the application.
        runtime_env: as `ray.init` takes it.

    Raises:
        ConfigError: a port is taken, or Ray does not start.
    """
    set_auth_mode()
    connect(
        None,
        namespace=_NAMESPACE,
        runtime_env=runtime_env,
        logging_level=logging.WARNING,
        log_to_driver=True,
        include_dashboard=True,
    )
    http_listener.start(settings, serve_environment.own_variables())


def _application(settings: Settings, fused: bool) -> Application:
    models = find_served(settings)
    spec = make_replica_spec(settings, models.rules, models.bundles, models.reasons)
    return build(spec, control(spec, fused=fused), fused=fused)


class _Asked(NamedTuple):
    cluster: GivenAddress | None
    runtime_env: dict[str, Any] | None


def _asked() -> _Asked:
    """What the command line asks of `serve run`, as Ray itself reads it."""
    words = sys.argv[sys.argv.index("run") + 1 :]
    context = serve_run.make_context("run", words)
    asked, typed = context.params, context.get_parameter_source("address") is ParameterSource.COMMANDLINE
    if asked["arguments"]:
        # Ray would refuse them when everything has been started.
        raise ConfigError(f"the application takes no arguments, and {' '.join(asked['arguments'])} was given")
    runtime_env = parse_runtime_env_args(
        runtime_env=asked["runtime_env"], runtime_env_json=asked["runtime_env_json"], working_dir=asked["working_dir"]
    )
    if asked["address"] in (None, "", LOCAL):
        return _Asked(None, runtime_env)
    return _Asked(GivenAddress(asked["address"], "--address" if typed else ADDRESS), runtime_env)
