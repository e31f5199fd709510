"""Online and batch predictions with the champion model; `graph` and `fused` are its Ray Serve applications.

`serve run ray_app:graph` (gateway, feature fetch and model apart) and `serve run ray_app:fused` (all in one replica)
look these two attributes up. They are built on first use, so that importing a module of this package loads no Ray.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import data as data

if TYPE_CHECKING:
    from ray.serve import Application

    graph: Application
    fused: Application

__all__ = ["fused", "graph"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        if f"ray_app:{name}" in sys.argv:
            # `serve run` would show where in Ray the import failed.
            sys.exit(f"error: ray_app has no application '{name}'; there are ray_app:graph and ray_app:fused")
        raise AttributeError(f"module 'ray_app' has no attribute '{name}'")
    from ray_app.environment import serve_environment

    # Before the next import: Ray reads its environment variables when it is imported.
    serve_environment.ensure()
    from ray_app.deployments.application import application

    app = application(fused=name == "fused")
    globals()[name] = app
    return app
