"""The servers that the serving benchmark compares: command, environment and process roles of each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.dialects import DIALECTS, Dialect
from benchmarks.peers.environments import ROOT, python_of
from benchmarks.peers.given import Given
from benchmarks.servers import processes
from ray_app.environment.serve_environment import serve_environment

GRAPH, FUSED, FASTAPI, XGBOOST, RAY_TUTORIAL = "graph", "fused", "fastapi", "fastapi-xgboost", "ray-tutorial"
OURS = (GRAPH, FUSED)
REPLICA_PORTS = range(8800, 8900)
_RAY_VARIABLES = ("RAY_", "RAYSCORE_")


@dataclass(frozen=True)
class Kind:
    """One kind of server.

    `command` has the arguments after `python`; `apart` is True when it runs in a virtual environment of its own; `role`
    names a process's part in the server; `exact` is True when its probabilities equal ONNX Runtime's bit for bit;
    `variables` are environment variables beside those of every server.
    """

    name: str
    title: str
    command: Callable[[Given, list[int]], list[str]]
    dialect: str = "plain"
    apart: bool = True
    on_ray: bool = False
    exact: bool = True
    role: Callable[[int], str] = processes.only_role
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def asked(self) -> Dialect:
        """The server's request format."""
        return DIALECTS[self.dialect]

    def python(self, folder: Path) -> str:
        """Path of its Python, in the virtual environments of `folder`; raises NotInstalled."""
        return str(python_of(self.name, folder)) if self.apart else sys.executable


def _module(name: str) -> Callable[[Given, list[int]], list[str]]:
    return lambda told, ports: ["-m", name]


def _ours(name: str) -> Kind:
    return Kind(
        name,
        f"rayscore {name}",
        lambda told, ports: ["-m", "benchmarks.servers.ray_server", name, str(told.bundle)],
        apart=False,
        on_ray=True,
        role=processes.ray_role,
    )


def _bentoml(told: Given, ports: list[int]) -> list[str]:
    service = "benchmarks.peers.bentoml_service:CardFraud"
    return ["-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(told.port)]


_ALL = (
    _ours(GRAPH),
    _ours(FUSED),
    Kind(FASTAPI, "FastAPI + ONNX Runtime", _module("benchmarks.peers.fastapi_service"), apart=False),
    Kind(XGBOOST, "FastAPI + XGBoost", _module("benchmarks.peers.fastapi_xgboost"), apart=False, exact=False),
    Kind(
        RAY_TUTORIAL,
        "Ray Serve as in its tutorials",
        _module("benchmarks.peers.ray_tutorial"),
        RAY_TUTORIAL,
        on_ray=True,
        role=processes.ray_proxy_role,
    ),
    Kind("bentoml", "BentoML", _bentoml, "bentoml"),
    Kind(
        "mlserver",
        "MLServer",
        lambda told, ports: ["-m", "benchmarks.peers.mlserver_runtime", str(ports[0])],
        "mlserver",
    ),
    Kind(
        "kserve",
        "KServe",
        lambda told, ports: [
            "-m",
            "benchmarks.peers.kserve_model",
            "--log_config_file",
            str(ROOT / "benchmarks/peers/kserve_logging.json"),
        ],
        "kserve",
    ),
    Kind("litserve", "LitServe", _module("benchmarks.peers.litserve_api"), "litserve"),
)
KINDS = {kind.name: kind for kind in _ALL}
"""By name, in the order in which they run."""


def environment(kind: Kind, told: Given, var_dir: Path, ports: list[int], inherited: dict[str, str]) -> dict[str, str]:
    """Environment variables of a server's process; those of Ray that this process has are left out."""
    plain = {name: value for name, value in inherited.items() if not name.startswith(_RAY_VARIABLES)}
    plain |= {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT), "BENTOML_DO_NOT_TRACK": "1", **told.environment()}
    ours = _our_settings(told, var_dir, ports) if kind.name in OURS else {}
    return {**plain, **ours, **kind.variables}


def _our_settings(told: Given, var_dir: Path, ports: list[int]) -> dict[str, str]:
    counts = {f"RAYSCORE_{stage}_REPLICAS": str(told.processes) for stage in _STAGES}
    return {
        **serve_environment(),
        **counts,
        "RAYSCORE_VAR_DIR": str(var_dir),
        "RAYSCORE_SQLITE_FILE": str(told.store),
        "RAYSCORE_HTTP_PORT": str(told.port),
        # Fixed numbers otherwise. With another Serve on this machine HAProxy would not start, or would fall
        # back on the other's proxy while its own replicas start, and so answer with the other's model.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports[0]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[1]),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[2]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(REPLICA_PORTS.start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(REPLICA_PORTS.stop),
    }


_STAGES = tuple(f"{stage}_{end}" for stage in ("GATEWAY", "FEATURE", "MODEL") for end in ("MIN", "MAX"))
