"""The Ray cluster that an address names: where it is, whether it answers, and why a connection failed, in one line."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, cast

import grpc
from ray._private.grpc_utils import init_grpc_channel
from ray._private.services import canonicalize_bootstrap_address
from ray.core.generated import gcs_service_pb2 as _gcs_messages
from ray.core.generated import ray_client_pb2 as _client_messages
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
from ray.core.generated.ray_client_pb2_grpc import RayletDriverStub
from ray.exceptions import AuthenticationError

from data.errors import ConfigError

# Their classes are made at import, where no type checker sees them.
_gcs: Any = _gcs_messages
_client: Any = _client_messages

ADDRESS = "RAY_ADDRESS"
LOCAL = "local"
_CLIENT = "ray://"
_CLIENT_PORT = 10001
_ANSWER_S = 10.0

# What Ray says when it cannot start or connect, and what a user can do about it.
_REMEDIES = (
    (r"timed out during startup|raylet.*startup", "this machine is too busy or too full: close other programs, retry"),
    (r"/dev/shm", "make /dev/shm larger (`--shm-size` in Docker), or free what lies in it"),
    (r"[Vv]ersion mismatch", "use the cluster's own versions of Ray and Python"),
    (r"object store memory|[Nn]ot enough memory|Cannot allocate", "close other programs, or use a larger machine"),
    (r"[Aa]ddress already in use|port.*(?:in use|taken|conflict)", "stop what listens there, or set another port"),
    (r"[Nn]o space left", "free disk space where Ray keeps its files (/tmp/ray)"),
    (r"[Pp]ermission denied", "give this user access to it; Ray keeps its files in /tmp/ray"),
)


class GivenAddress(NamedTuple):
    """The address of a cluster as the user gave it; its text names it so."""

    address: str
    """`auto`, `host:port` or `ray://host:port`."""
    by: str = ADDRESS
    """The variable or the option that gave it."""

    def __str__(self) -> str:
        return f"{self.by}{' ' if self.by.startswith('-') else '='}{self.address}"

    @property
    def alone(self) -> str:
        """What to do to use this machine instead of a cluster."""
        how = f"give `{self.by} {LOCAL}`" if self.by.startswith("-") else f"unset {self.by}"
        return f"{how} to use this machine alone"


def check_answers(given: GivenAddress, answer_s: float = _ANSWER_S) -> str:
    """Return the address with the port of a cluster that answers; Ray alone tries for two minutes, then ends.

    Args:
        given: the address.
        answer_s: how long to wait for an answer, in seconds.

    Raises:
        ConfigError: the address is none, or nobody answers there.
    """
    found = _resolved(given)
    code = _answer(found, answer_s)
    at = f"{given}" + (f" ({found})" if given.address == "auto" else "")
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        raise ConfigError(
            f"no Ray cluster answers at {at} within {answer_s:g} s; start one with `ray start --head`, correct the "
            f"address, or {given.alone}"
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        raise ConfigError(f"what answers at {at} is no Ray cluster; correct the address, or {given.alone}")
    return found


def _answer(found: str, answer_s: float) -> grpc.StatusCode:
    """How whatever is at `host:port` or `ray://host:port` answers a question that every cluster understands."""
    channel: Any = init_grpc_channel(found.removeprefix(_CLIENT))
    try:
        if found.startswith(_CLIENT):
            ping = _client.ClusterInfoRequest(type=_client.ClusterInfoType.PING)
            RayletDriverStub(channel).ClusterInfo(ping, timeout=answer_s, wait_for_ready=True)
        else:
            NodeInfoGcsServiceStub(channel).CheckAlive(_gcs.CheckAliveRequest(), timeout=answer_s, wait_for_ready=True)
    except grpc.RpcError as exc:
        # A refusal for want of a token is for `ray.init` to tell.
        return cast("grpc.Call", exc).code()
    finally:
        channel.close()
    return grpc.StatusCode.OK


def _resolved(given: GivenAddress) -> str:
    address = given.address
    if address.startswith(("http://", "https://")):
        raise ConfigError(
            f"{given} is a dashboard's address, which `ray job submit` takes; here give the head's HOST:6379, or "
            f"{given.alone}"
        )
    try:
        found = address if address.startswith(_CLIENT) else canonicalize_bootstrap_address(address)
    except ConnectionError as exc:
        raise ConfigError(
            f"{given}: no Ray cluster runs on this machine; start one with `ray start --head`, or {given.alone}"
        ) from exc
    except (ValueError, OSError) as exc:
        raise _malformed(given) from exc
    if found is None:
        raise _malformed(given)
    if found.startswith(_CLIENT) and not re.search(r":\d+$", found):
        found = f"{found}:{_CLIENT_PORT}"
    port = re.search(r":(\d+)$", found)
    if port is None or not 0 < int(port[1]) < 65_536:
        raise _malformed(given)
    return found


def _malformed(given: GivenAddress) -> ConfigError:
    return ConfigError(
        f"{given} is no address of a Ray cluster: give HOST:PORT, ray://HOST:PORT or auto, or {given.alone}"
    )


def refusal(exc: BaseException, given: GivenAddress | None) -> ConfigError:
    """Return in one line why Ray did not start, or did not let us in.

    Args:
        exc: what `ray.init` raised.
        given: address of the cluster; None for one that was to start on this machine.
    """
    words = _line(exc)
    if isinstance(exc, AuthenticationError) or "RAY_AUTH" in words or "auth token" in words.lower():
        return ConfigError(
            "Ray asks for a token and was given none, or another: set RAY_AUTH_TOKEN (or ~/.ray/auth_token) to the "
            "cluster's; without tokens on both sides, RAY_AUTH_MODE=disabled"
        )
    remedy = next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, words)), None)
    if given:
        return ConfigError(f"the Ray cluster at {given} cannot be used: {words}; {remedy or given.alone}")
    return ConfigError(f"Ray did not start on this machine: {words}; {remedy or 'its logs are in /tmp/ray'}")


def _line(exc: BaseException) -> str:
    """All that an exception and its cause say, in one line."""
    said = [str(each) for each in (exc, exc.__cause__) if each is not None and str(each)]
    return " ".join(": ".join(said).split())[:600].rstrip(".") or type(exc).__name__
