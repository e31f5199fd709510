"""The short way in: a request for a prediction goes from a gateway's HTTP server to the door, past Serve's own work.

Serve surrounds each request that reaches an ingress replica with tasks, contexts, ids and counters that cost
more CPU than the prediction does. It also lets middleware wrap that HTTP server, named by a variable that the
gateways' deployment sets (`ENVIRONMENT`): that middleware answers /predict by itself and hands on all else.
What Serve then no longer sees, the door counts: requests, latencies, and what autoscaling decides by.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.middleware import Middleware

from ray_app.http.asgi import PATH, PredictApp, Receive, Scope, Send

ENVIRONMENT = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "ray_app.deployments.direct_ingress:middlewares"}
"""What a replica's environment must hold for `middlewares` to be asked when its HTTP server starts."""

App = Callable[[Scope, Receive, Send], Awaitable[None]]

_doors: list[PredictApp] = []


class DirectIngress:
    """Gives the door what is its own, everything else to `app`."""

    def __init__(self, app: App, door: PredictApp) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection scope."""
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST":
            await self._door.predict(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def offer(door: PredictApp) -> None:
    """Name the door of this process, before its HTTP server starts."""
    _doors[:] = [door]


def middlewares() -> list[Middleware]:
    """What Serve wraps this process's HTTP server in: nothing where no door was offered."""
    return [Middleware(DirectIngress, door=door) for door in _doors]
