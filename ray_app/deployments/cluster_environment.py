"""The environment in which a running cluster starts Serve: variables given to `serve run` act there, or are refused.

Serve's controller, proxies and replicas read their variables in processes of the cluster, which have them from
`ray start` and from the job's `runtime_env`. The environment of the `serve run` command reaches none of them.
"""

from __future__ import annotations

import os
import runpy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import ray
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray.exceptions import GetTimeoutError, RayError
from ray.serve._private import constants
from ray.serve.context import _get_global_client

from data.distributed.cluster_address import GivenAddress
from data.errors import ConfigError
from ray_app.environment.serve_environment import of_serve

_PATIENCE_S = 120.0
_LONGEST = 40
_MOST_NAMED = 3

_OF_THE_COMMAND = {
    # What they say is part of the application that the command hands over.
    "RAY_SERVE_FORCE_LOCAL_TESTING_MODE",
    "RAY_SERVE_ROUTER_RETRY_INITIAL_BACKOFF_S",
    "RAY_SERVE_ROUTER_RETRY_BACKOFF_MULTIPLIER",
    "RAY_SERVE_ROUTER_RETRY_MAX_BACKOFF_S",
    # The settings' own host is in force, in every cluster.
    "RAY_SERVE_DEFAULT_HTTP_HOST",
}


def read_variables() -> dict[str, str]:
    """Return the variables of Serve in the connected cluster: its controller's, or those that a controller would get.

    Raises:
        ConfigError: the head does not answer in two minutes, or cannot start a process for this job.
    """
    client = _get_global_client(raise_if_no_controller_running=False)
    try:
        if client is not None:
            # Every actor answers this call, which is no part of its class.
            controller = cast("Any", client._controller)
            asked = controller.__ray_call__.remote(lambda actor: dict(os.environ))
        else:
            # Where Serve starts its controller, and at no reserved CPU as that.
            reader = ray.remote(num_cpus=0, resources={HEAD_NODE_RESOURCE_NAME: 0.001})(lambda: dict(os.environ))
            asked = reader.remote()
        return of_serve(ray.get(asked, timeout=_PATIENCE_S))
    except GetTimeoutError as exc:
        raise ConfigError(
            f"the head of the cluster started no process in {_PATIENCE_S:g} s; `ray status` tells what it is busy with"
        ) from exc
    except RayError as exc:
        raise ConfigError(f"the head of the cluster cannot start a process for this job: {exc}") from exc


def check_given(given: Mapping[str, str], found: Mapping[str, str], address: GivenAddress) -> None:
    """Compare the variables that the user gave to `serve run` with those of the cluster.

    One that says what is in force there anyway, be it by default, is no fault.

    Args:
        given: the user's variables of Serve.
        found: the cluster's.
        address: of the cluster.

    Raises:
        ConfigError: a variable cannot act there; it is named, with what is in force.
    """
    refused = [
        f"{name}={_short(value)} ({_there(found.get(name))})"
        for name, value in sorted(given.items())
        if name not in _OF_THE_COMMAND and not _in_force(name, value, found)
    ]
    if refused:
        more = len(refused) - _MOST_NAMED
        names = ", ".join(refused[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        raise ConfigError(
            f"{names} cannot act in the running cluster at {address}: unset what you gave, or start the cluster's "
            "nodes anew with it (before `ray start`)"
        )


def _short(value: str) -> str:
    words = " ".join(value.split())
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]} ..."


def _there(value: str | None) -> str:
    return "there it is not set" if value is None else f"there it is {_short(value)}"


def _in_force(name: str, value: str, found: Mapping[str, str]) -> bool:
    if found.get(name) == value:
        return True
    # Serve has its defaults and its ways to write one value in code alone.
    known = _constants({**found, name: value})
    return _is_known(name) and known is not None and known == _constants(found)


def _is_known(name: str) -> bool:
    return f'"{name}"' in Path(constants.__file__).read_text("utf-8")


def _constants(environment: Mapping[str, str]) -> dict[str, object] | None:
    """What Serve makes of its variables in an environment; None when it refuses one."""
    with _replaced(environment):
        try:
            made = runpy.run_path(constants.__file__)
        except (ValueError, TypeError):
            return None
    return {name: value for name, value in made.items() if name.isupper()}


@contextmanager
def _replaced(environment: Mapping[str, str]) -> Iterator[None]:
    """This process with other variables of Serve for as long as the block takes."""
    own = of_serve(os.environ)
    try:
        for name in own:
            del os.environ[name]
        os.environ.update(environment)
        yield
    finally:
        for name in of_serve(os.environ):
            del os.environ[name]
        os.environ.update(own)
