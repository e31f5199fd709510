"""The handshake of a link: the peer must know the application's secret, and both ends must read payloads alike."""

from __future__ import annotations

import hmac

import msgpack

from ray_app.transport.framing import PROTOCOL


class Handshake:
    """Makes and checks the payload of HELLO frames.

    Args:
        secret: random bytes that only the replicas of one application know.
        deployment: name of the deployment that answers.
        fingerprint: fingerprint of what payloads mean: the model's contract, which all its loaded versions share.
    """

    def __init__(self, secret: bytes, deployment: str, fingerprint: str) -> None:
        self._secret = secret
        self._terms = [PROTOCOL, deployment, fingerprint]

    def encode(self) -> bytes:
        """Return the payload of a HELLO frame."""
        return bytes(msgpack.packb([self._secret, *self._terms]) or b"")

    def problem(self, payload: bytes) -> str | None:
        """Return why a HELLO is refused ("garbled", "secret", "protocol" or "schema"), None when it is accepted."""
        try:
            secret, *terms = msgpack.unpackb(payload)
        except (ValueError, TypeError, msgpack.UnpackException):
            return "garbled"
        if not isinstance(secret, bytes) or not hmac.compare_digest(secret, self._secret):
            return "secret"
        if terms[:1] != self._terms[:1]:
            return "protocol"
        return None if terms == self._terms else "schema"
