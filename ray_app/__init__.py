"""Answering for a row: the Ray Serve application.

`serve run ray_app:graph` (three deployments) and `serve run ray_app:fused` (one) look the attributes
up here. They are built on first use, so that importing a leaf of this package imports no Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import data as data

if TYPE_CHECKING:
    from ray.serve import Application

    graph: Application
    fused: Application

__all__ = ["fused", "graph"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ray_app' has no attribute '{name}'")
    from ray_app.environment import serve_environment

    # Before Ray is imported by the next line: it reads its environment then.
    serve_environment.ensure()
    from ray_app.deployments.application import application

    app = application(fused=name == "fused")
    globals()[name] = app
    return app
