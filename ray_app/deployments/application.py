"""Builds the application that `serve run ray_app:graph` and `serve run ray_app:fused` import."""

from __future__ import annotations

import logging
import os
import sys

import ray
from ray import serve
from ray.serve import Application
from ray.serve.config import HTTPOptions

from data.cli.terminal import EXIT_ERROR, err
from data.distributed.ray_cluster import WorkerPath, set_auth_mode
from data.errors import RayscoreError
from data.settings import Settings, load_settings
from ray_app.control.served_models import find_served
from ray_app.deployments.control import control
from ray_app.deployments.graph_builder import build
from ray_app.deployments.replica_spec import make_replica_spec
from ray_app.environment import serve_environment


def application(*, fused: bool = False) -> Application:
    """Build the application that serves the registry's champion by its traffic rules.

    In the `serve run` command without a cluster, this also starts Ray, and Serve with the settings' host and port.
    There an error of ours ends the command with a message and exit code 2; elsewhere it is raised.
    """
    from_command = serve_environment.in_serve_run() and not ray.is_initialized()
    try:
        settings = load_settings()
        models = find_served(settings)
        if from_command and not _names_cluster():
            start_local(settings)
    except RayscoreError as exc:
        if not from_command:
            raise
        err.print(f"error: {exc}", markup=False, style="red")
        sys.exit(EXIT_ERROR)
    spec = make_replica_spec(settings, models.rules, models.bundles)
    return build(spec, control(spec, fused=fused), fused=fused)


def start_local(settings: Settings) -> None:
    """Start Ray on this machine, with its dashboard, and Serve on the settings' host and port."""
    set_auth_mode()
    ray.init(
        address="local",
        namespace="serve",
        job_config=WorkerPath(),
        logging_level=logging.WARNING,
        include_dashboard=True,
    )
    serve.start(http_options=HTTPOptions(host=settings.http_host, port=settings.http_port))


def _names_cluster() -> bool:
    named = any(part == "-a" or part.startswith("--address") for part in sys.argv)
    return named or "RAY_ADDRESS" in os.environ
