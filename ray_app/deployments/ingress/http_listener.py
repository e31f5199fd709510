"""The address on which Serve takes HTTP requests: the settings' own, or a refusal that names what is in the way."""

from __future__ import annotations

from collections.abc import Mapping

from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.context import _get_global_client

from data.cli.terminal import note
from data.errors import ConfigError
from data.settings import PREFIX, Settings
from ray_app.environment.listeners import bind_fault
from ray_app.environment.serve_environment import fixed_ports

_ANYWHERE = "0.0.0.0"
_HOST_OF_SERVE = "RAY_SERVE_DEFAULT_HTTP_HOST"


def check_free(settings: Settings, environment: Mapping[str, str]) -> None:
    """Look whether the ports that serving needs on this machine are free.

    Args:
        settings: of the application.
        environment: that of the processes which listen.

    Raises:
        ConfigError: one is not, or the host is none of this machine; it names the setting, and who has the port.
    """
    fault = bind_fault(settings.http_host, settings.http_port)
    if fault:
        raise ConfigError(f"{fault}; set {PREFIX}HTTP_HOST and {PREFIX}HTTP_PORT to what is free here")
    for name, port in fixed_ports(environment).items():
        fault = bind_fault(_ANYWHERE, _number(name, port))
        if fault:
            raise ConfigError(f"{fault}; set {name} to a free port")


def check_no_other_host(settings: Settings, given: Mapping[str, str]) -> None:
    """Look whether the user gave a host by Serve's own variable, which the settings' host outdoes.

    Args:
        settings: of the application.
        given: the user's variables of Serve.

    Raises:
        ConfigError: it is another than the settings' default, and these were not given one.
    """
    other = given.get(_HOST_OF_SERVE)
    if other not in (None, "", settings.http_host) and "http_host" not in settings.model_fields_set:
        raise ConfigError(f"{_HOST_OF_SERVE}={other} does not act: give {PREFIX}HTTP_HOST={other}, or unset it")


def _number(name: str, given: str) -> int:
    if given.isdecimal() and 0 < int(given) < 65_536:
        return int(given)
    raise ConfigError(f"{name}={given} is no TCP port; give a number from 1 to 65535")


def start(settings: Settings, environment: Mapping[str, str] | None) -> None:
    """Start Serve on the settings' host and port in the cluster that this process is connected to.

    Args:
        settings: of the application.
        environment: that of the cluster, by which the ports of this machine are looked at before; None where this
            machine is none of the cluster's.

    Raises:
        ConfigError: Serve runs there on another host or port than the settings ask for, or a port is taken.
    """
    if check_running(settings):
        return
    if environment is not None:
        check_free(settings, environment)
    serve.start(http_options=HTTPOptions(host=settings.http_host, port=settings.http_port))


def check_running(settings: Settings) -> bool:
    """Return whether Serve runs in the connected cluster.

    Raises:
        ConfigError: it does, on another host or port than the settings ask for.
    """
    client = _get_global_client(raise_if_no_controller_running=False)
    if client is not None:
        check_same(settings, client.http_config.host, client.http_config.port)
    return client is not None


def check_same(settings: Settings, host: str | None, port: int) -> None:
    """Compare with the settings where Serve listens, which it cannot change while it runs.

    A host or port that the user did not set asks for nothing; then a note says where Serve listens.

    Raises:
        ConfigError: the settings ask for another host or port.
    """
    asked = {"http_host": (settings.http_host, host), "http_port": (settings.http_port, port)}
    other = {name: wanted for name, (wanted, found) in asked.items() if wanted != found}
    refused = [
        f"{PREFIX}{name.upper()}={wanted}" for name, wanted in other.items() if name in settings.model_fields_set
    ]
    if refused:
        raise ConfigError(
            f"Serve already listens on {host}:{port} in this cluster, so {' and '.join(refused)} cannot act: end it "
            f"first (`serve shutdown -y`, which ends all that it serves), or set {PREFIX}HTTP_HOST={host} and "
            f"{PREFIX}HTTP_PORT={port}"
        )
    if other:
        note(f"Serve already listens on {host}:{port} in this cluster; requests are answered there")
