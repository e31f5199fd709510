"""Direct ingress: a prediction request goes from a gateway's HTTP server straight to its application, past Serve.

Serve surrounds each request that reaches an ingress replica with tasks, contexts, ids and counters that cost
more CPU than the prediction does. It also lets middleware wrap that HTTP server, named by a variable that the
gateways' deployment sets (`ENVIRONMENT`): that middleware answers /predict by itself and hands on all else.
What Serve then no longer sees, the application counts: requests, latencies, and what autoscaling decides by.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.middleware import Middleware

from ray_app.http.asgi import PATH, PredictApp, Receive, Scope, Send

ENVIRONMENT = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "ray_app.deployments.ingress.direct_ingress:middlewares"}
"""Environment variables of a replica by which Serve calls `middlewares` when the replica's HTTP server starts."""

App = Callable[[Scope, Receive, Send], Awaitable[None]]

_predict_apps: list[PredictApp] = []


class DirectIngress:
    """ASGI middleware: prediction requests go to `predict_app`, everything else to `app`, which is Serve's."""

    def __init__(self, app: App, predict_app: PredictApp) -> None:
        self._app = app
        self._predict_app = predict_app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection scope."""
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST":
            await self._predict_app.predict(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def register(predict_app: PredictApp) -> None:
    """Set the application of this process; to be called before its HTTP server starts."""
    _predict_apps[:] = [predict_app]


def middlewares() -> list[Middleware]:
    """Return the middleware that Serve wraps this process's HTTP server in, none where no application is registered."""
    return [Middleware(DirectIngress, predict_app=each) for each in _predict_apps]
