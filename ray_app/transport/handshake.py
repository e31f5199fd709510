"""The first words on a link: who may talk, and that both sides mean the same by what they say."""

from __future__ import annotations

import hmac

import msgpack

from ray_app.transport.framing import PROTOCOL


class Handshake:
    """What both sides must agree on: the application's secret, the protocol, and what the payloads mean.

    Args:
        secret: random bytes that only the replicas of one application know.
        deployment: name of the deployment that answers.
        fingerprint: of what all payloads share; of a model its contract, which several versions have in common.
    """

    def __init__(self, secret: bytes, deployment: str, fingerprint: str) -> None:
        self._secret = secret
        self._said = [PROTOCOL, deployment, fingerprint]

    def encode(self) -> bytes:
        """The payload of a HELLO frame."""
        return bytes(msgpack.packb([self._secret, *self._said]) or b"")

    def problem(self, payload: bytes) -> str | None:
        """Why a peer's HELLO is not acceptable, None when it is: "garbled", "secret", "protocol" or "schema"."""
        try:
            secret, *said = msgpack.unpackb(payload)
        except (ValueError, TypeError, msgpack.UnpackException):
            return "garbled"
        if not isinstance(secret, bytes) or not hmac.compare_digest(secret, self._secret):
            return "secret"
        if said[:1] != self._said[:1]:
            return "protocol"
        return None if said == self._said else "schema"
