"""The explanation stage: contributions of scored rows, by an explanation replica over a transport.

A request is the bundle's digest (8 bytes), the number of rows (uint32, little-endian) and the rows as float32; an
answer is one status byte, and base value, margin and contributions of each row as float64. Both ends of this encoding
are in this module.
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Callable
from importlib import import_module
from typing import Protocol

import numpy as np

from data.errors import DeadlineExceeded, VersionUnavailable
from ray_app.monitoring.histogram import Histogram
from ray_app.transport.connection_pool import Transport
from tune.registry.bundle import Bundle

_HEADER = struct.Struct("<8sI")
_OK, _NOT_LOADED = b"\0", b"\1"
LEADING = 2
"""Columns of an explained row before its contributions: base value and margin."""


class Explainer(Protocol):
    """Explains rows of one bundle; `ray_app.inference.explanation.tree_shap.TreeShap` is the one there is."""

    width: int
    rows: int
    seconds: Histogram

    def explain(self, matrix: np.ndarray) -> np.ndarray:
        """Return base value, margin and contributions, float64 of shape (n, 2 + k), for float32 of shape (n, k)."""
        ...


class ExplanationStage(Protocol):
    """Explains encoded rows."""

    async def explain(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Return base value, margin and contributions in the unit of the margin, float64 of shape (n, 2 + k).

        Args:
            matrix: the n encoded rows of k features that were scored, float32.
            timeout_s: seconds that the callers have left.

        Raises:
            VersionUnavailable: no replica that answers has loaded the version.
            Overloaded: no replica can be reached, or all are full.
            DeadlineExceeded: no replica answered in time.
        """
        ...


def load_explainer(bundle: Bundle) -> Explainer:
    """Load a bundle's booster; see `TreeShap`.

    Raises:
        BundleError, SchemaMismatch: the booster does not load, or does not explain the bundle's probe rows.
    """
    # By its name: gateways and model replicas import this module too, and are to load no XGBoost.
    return import_module("ray_app.inference.explanation.tree_shap").TreeShap(bundle)


class ExplanationServer:
    """The replica's end of `RemoteExplanation`.

    Args:
        explainers: returns the explainer of a bundle, by the bytes of its digest; None when it is not loaded here.
    """

    def __init__(self, explainers: Callable[[bytes], Explainer | None]) -> None:
        self._explainers = explainers

    def call(self, request: bytes) -> bytes:
        """Explain the rows of a request by the bundle that it names; "not loaded" rather than by another one."""
        digest, rows = _HEADER.unpack_from(request)
        explainer = self._explainers(digest)
        if explainer is None:
            return _NOT_LOADED
        matrix = np.frombuffer(request, np.float32, offset=_HEADER.size).reshape(rows, explainer.width)
        return _OK + explainer.explain(matrix).tobytes()


def is_unexplained_version(answer: bytes) -> bool:
    """True when an explanation replica answered that it has not loaded the bundle; another replica may have."""
    return answer[:1] == _NOT_LOADED


class RemoteExplanation:
    """An explanation stage that explains by one bundle in another replica.

    Args:
        transport: calls some explanation replica.
        digest: the bundle's digest, 16 hexadecimal digits.
    """

    def __init__(self, transport: Transport, digest: str) -> None:
        self._transport = transport
        self._digest = bytes.fromhex(digest)

    async def explain(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Explain on some replica; see `ExplanationStage`."""
        request = _HEADER.pack(self._digest, len(matrix)) + matrix.tobytes()
        try:
            answer = await self._transport(request, timeout_s)
        except asyncio.TimeoutError as exc:
            raise DeadlineExceeded(f"no explanation in {timeout_s * 1000:.0f} ms") from exc
        if answer[:1] != _OK:
            raise VersionUnavailable("no explanation replica that answers holds this version")
        return np.frombuffer(answer, np.float64, offset=1).reshape(len(matrix), -1)
