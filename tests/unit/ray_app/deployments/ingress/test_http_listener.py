"""Host and port of the settings act, or are refused by name: where they are taken, and where Serve runs elsewhere."""

from __future__ import annotations

import os
import socket

import pytest

from data.errors import ConfigError
from data.settings import Settings
from ray_app.deployments.ingress.http_listener import check_free, check_no_other_host, check_same
from ray_app.environment.serve_environment import FIXED_PORTS
from tests.support.environment.ports import free_port


@pytest.fixture(autouse=True)
def free_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve's own ports, free ones."""
    for name in FIXED_PORTS:
        monkeypatch.setenv(name, str(free_port()))
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")


@pytest.mark.parametrize("variable", ["RAYSCORE_HTTP_PORT", *FIXED_PORTS])
def test_taken_port_is_refused_by_name(variable: str, monkeypatch: pytest.MonkeyPatch):
    """A port that serving needs and that is taken is refused with its variable and the pid of who has it."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        taken = server.getsockname()[1]
        monkeypatch.setenv(variable, str(taken))
        wanted = taken if variable == "RAYSCORE_HTTP_PORT" else free_port()
        with pytest.raises(ConfigError, match=rf"port {taken} is taken by pid {os.getpid()}, .*{variable}"):
            check_free(Settings(http_port=wanted), os.environ)
    check_free(Settings(http_port=wanted), os.environ)


def test_ports_of_haproxy_are_looked_at_where_it_starts(monkeypatch: pytest.MonkeyPatch):
    """Without HAProxy its ports may belong to others."""
    monkeypatch.setenv("RAY_SERVE_HAPROXY_STATS_PORT", "none")
    with pytest.raises(ConfigError, match="RAY_SERVE_HAPROXY_STATS_PORT=none is no TCP port"):
        check_free(Settings(http_port=free_port()), os.environ)
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "0")
    check_free(Settings(http_port=free_port()), os.environ)


def test_host_of_serve_is_refused_where_it_does_not_act():
    """Serve's own variable of the host is refused by name, unless the settings say where to listen."""
    given = {"RAY_SERVE_DEFAULT_HTTP_HOST": "0.0.0.0"}
    with pytest.raises(ConfigError, match=r"RAY_SERVE_DEFAULT_HTTP_HOST=0.0.0.0 does not act: give RAYSCORE_HTTP_HOST"):
        check_no_other_host(Settings(), given)
    check_no_other_host(Settings(http_host="127.0.0.1"), given)
    check_no_other_host(Settings(), {})


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"http_host": "127.0.0.1"}, "RAYSCORE_HTTP_HOST=127.0.0.1 cannot act"),
        ({"http_port": 9000}, "RAYSCORE_HTTP_PORT=9000 cannot act"),
        (
            {"http_host": "127.0.0.1", "http_port": 9000},
            "RAYSCORE_HTTP_HOST=127.0.0.1 and RAYSCORE_HTTP_PORT=9000 cannot act",
        ),
    ],
)
def test_running_serve_on_another_address_is_refused(given: dict[str, object], refused: str):
    """What the settings ask for and the running Serve does not do is refused by name, with where it listens."""
    with pytest.raises(ConfigError, match=f"already listens on 0.0.0.0:8000 .* {refused}"):
        check_same(Settings.model_validate(given), "0.0.0.0", 8000)


def test_running_serve_is_taken_as_it_is(capsys: pytest.CaptureFixture[str]):
    """The same address, or none asked for, is taken; where it is not the default a note says so."""
    check_same(Settings(http_host="0.0.0.0", http_port=8000), "0.0.0.0", 8000)
    assert capsys.readouterr().err == ""
    check_same(Settings(), "0.0.0.0", 8000)
    assert "Serve already listens on 0.0.0.0:8000" in capsys.readouterr().err
