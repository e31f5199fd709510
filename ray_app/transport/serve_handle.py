"""Ray Serve's handles as a transport to a stage: used where no link can be had, and when links are switched off."""

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
    """Return the handle of one method. Keep it: every call of this function makes a new handle."""
    # The one argument is bytes, which pickle serializes in a sixth of cloudpickle's time.
    return handle.options(method_name=name, request_serialization="pickle", response_serialization="pickle")


def by_handle(handle: DeploymentHandle) -> Transport:
    """Return a transport that calls the deployment's `call` method.

    A call whose replica died is repeated once; if that fails too, the transport raises Overloaded.
    """
    call = method_of(handle, "call")

    async def send(request: bytes) -> bytes:
        try:
            return await call.remote(request)
        except _UNREACHABLE:
            # The replica died during the call. All calls only read, so repeating one is safe.
            try:
                return await call.remote(request)
            except _UNREACHABLE as exc:
                raise Overloaded(f"no replica of {handle.deployment_name} answers; try again") from exc

    async def send_in_time(request: bytes, timeout_s: float) -> bytes:
        return await asyncio.wait_for(send(request), timeout_s)

    return send_in_time


async def ping(handle: DeploymentHandle) -> str | None:
    """Return the problem that a stage's `ping` method reports, or that no replica answers within 1 s; else None."""
    try:
        return await asyncio.wait_for(handle.remote(), _PING_TIMEOUT_S)
    except (asyncio.TimeoutError, *_UNREACHABLE):
        return "no replica answers"
