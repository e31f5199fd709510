"""Who listens on a port, and why a server of ours could not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from ray_app.environment.listeners import bind_fault, listener
from tests.support.environment.ports import free_port


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which this process listens at loopback."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_taken_port_names_its_owner(taken: int, host: str):
    """Of a port that is taken the fault has pid and command of who listens, also when all addresses are asked for."""
    found = listener(taken)
    assert found is not None
    assert found.pid == os.getpid()
    assert "pytest" in found.command or "python" in found.command
    assert bind_fault(host, taken) == f"port {taken} is taken by {found}"


def test_listener_on_ipv6_is_found():
    """Who listens at the IPv6 loopback is named too."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    with socket.socket(socket.AF_INET6) as server:
        server.bind(("::1", 0))
        server.listen()
        found = listener(server.getsockname()[1])
    assert found is not None
    assert found.pid == os.getpid()


@pytest.mark.parametrize(
    ("host", "fault"),
    [
        ("192.0.2.77", "192.0.2.77 is no address of this machine"),
        ("no such host", "no such host is neither an address nor a known name"),
    ],
)
def test_wrong_host_is_told_from_a_taken_port(host: str, fault: str):
    """A host that is not this machine's, or none at all, is said to be so."""
    assert bind_fault(host, free_port()) == fault


def test_free_port_has_no_fault():
    """A free port, and one that was closed a moment ago, can be listened on, and nobody listens there."""
    port = free_port()
    for host in ("127.0.0.1", "0.0.0.0"):
        assert bind_fault(host, port) is None
    assert listener(port) is None
