"""The service under test: its address, the bytes of a request to it, and its OpenAPI document."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from data.errors import ConfigError, RayscoreError

_CONTROL_TIMEOUT_S = 5.0


class Unreachable(RayscoreError):
    """The service cannot be reached before the test; the message says what was tried."""


@dataclass(frozen=True)
class Target:
    """Address of a service. `base` is its route prefix without a final slash; `tls` is None for plain HTTP."""

    host: str
    port: int
    base: str = ""
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        """The address as `http://host:port/base`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.base}"

    def post(self, body: bytes) -> bytes:
        """The bytes of a complete HTTP/1.1 request `POST /predict` with this JSON body."""
        host = urlsplit(self.url).netloc
        head = (
            f"POST {self.base}/predict HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def resolve(self) -> str:
        """The first IP address of the host; resolved once per run, so that DNS is not part of the latency.

        Raises:
            Unreachable: the host name cannot be resolved.
        """
        try:
            return str(socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0][4][0])
        except OSError as exc:
            raise Unreachable(f"{self.url}: the host's name cannot be resolved: {exc}") from exc

    def document(self) -> dict[str, Any] | None:
        """Fetch the service's OpenAPI document; None when it has none.

        Raises:
            Unreachable: no HTTP answer within 5 s.
        """
        url = f"{self.url}/openapi.json"
        try:
            # trust_env=False ignores HTTP_PROXY and the like: requests go to the named address and nowhere else.
            with httpx.Client(trust_env=False, timeout=_CONTROL_TIMEOUT_S) as client:
                answer = client.get(url)
        except httpx.HTTPError as exc:
            reason = str(exc) or type(exc).__name__
            raise Unreachable(
                f"tried GET {url} for {_CONTROL_TIMEOUT_S:g} s: {reason}. Is the service running there? "
                "Start it with `serve run ray_app:graph`, or name another address with --url"
            ) from exc
        try:
            parsed = answer.json() if answer.status_code == 200 else None
        except ValueError:
            return None
        return parsed if isinstance(parsed, dict) else None


def parse_url(url: str) -> Target:
    """Parse `http://host:port` or `https://host:port`, with a path when the service has a route prefix.

    Raises:
        ConfigError: the text is not such an address.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ConfigError(f"--url {url}: {exc}") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"--url {url}: expected http://HOST:PORT or https://HOST:PORT, with a path at most")
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    return Target(parts.hostname, port or (443 if tls else 80), parts.path.rstrip("/"), tls)
