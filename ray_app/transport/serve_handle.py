"""Serve's own handles as a transport to a stage: the fallback of links, and their reference."""

from __future__ import annotations

import asyncio

from ray.exceptions import RayActorError
from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from data.errors import Overloaded
from ray_app.transport.connection_pool import Transport

_PING_TIMEOUT_S = 1.0
_UNREACHABLE = (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError)


def method_of(handle: DeploymentHandle, name: str) -> DeploymentHandle:
    """Return the handle of one method, to be kept: looking it up anew makes a new handle each time."""
    # The one argument is bytes, for which pickle does what cloudpickle does in a sixth of the time.
    return handle.options(method_name=name, request_serialization="pickle", response_serialization="pickle")


def by_handle(handle: DeploymentHandle) -> Transport:
    """Return a transport to the `call` method; a replica that died is retried once, then Overloaded is raised."""
    call = method_of(handle, "call")

    async def send(request: bytes) -> bytes:
        try:
            return await call.remote(request)
        except _UNREACHABLE:
            # The replica died with the request. Every call only reads, so another replica may answer it.
            try:
                return await call.remote(request)
            except _UNREACHABLE as exc:
                raise Overloaded(f"no replica of {handle.deployment_name} answers; try again") from exc

    async def send_in_time(request: bytes, timeout_s: float) -> bytes:
        return await asyncio.wait_for(send(request), timeout_s)

    return send_in_time


async def ping(handle: DeploymentHandle) -> str | None:
    """Return what a stage's `ping` method says is wrong, or that no replica answers."""
    try:
        return await asyncio.wait_for(handle.remote(), _PING_TIMEOUT_S)
    except (asyncio.TimeoutError, *_UNREACHABLE):
        return "no replica answers"
