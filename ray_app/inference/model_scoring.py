"""Model scoring: in this process, or at the far end of a transport.

What the bytes between the two ends mean is known here alone, so that another transport needs no other code.
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Callable

import numpy as np

from data.errors import DeadlineExceeded, VersionUnavailable
from ray_app.inference.onnx_model import OnnxModel
from ray_app.transport.connection_pool import Transport

_SHAPE = struct.Struct("<8sI")
_OK, _ABSENT = b"\0", b"\1"


class LocalModel:
    """The model in this process."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model

    async def score(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Score on the event loop: a batch takes less time than a hop to a thread."""
        return self._model.score(matrix)


class ModelServer:
    """Answers `RemoteModel`: bytes in, bytes out.

    Args:
        models: returns the model of a bundle by its digest's bytes, None for one that is not loaded here.
    """

    def __init__(self, models: Callable[[bytes], OnnxModel | None]) -> None:
        self._models = models

    def call(self, request: bytes) -> bytes:
        """Score a packed matrix by the bundle that it names, and by no other."""
        digest, rows = _SHAPE.unpack_from(request)
        model = self._models(digest)
        if model is None:
            return _ABSENT
        matrix = np.frombuffer(request, np.float32, offset=_SHAPE.size).reshape(rows, model.width)
        return _OK + model.score(matrix).tobytes()


def is_absent_version(answer: bytes) -> bool:
    """True when a model replica answered that it does not hold the bundle: another one may."""
    return answer[:1] == _ABSENT


class RemoteModel:
    """One bundle at the far end of a transport, bounded in time: a replica that hangs must not keep a batch slot."""

    def __init__(self, transport: Transport, digest: str, timeout_s: float) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._digest = bytes.fromhex(digest)

    async def score(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Score on some replica; see ModelStage."""
        allowed = min(self._timeout_s, timeout_s)
        request = _SHAPE.pack(self._digest, len(matrix)) + matrix.tobytes()
        try:
            answer = await self._transport(request, allowed)
        except asyncio.TimeoutError as exc:
            raise DeadlineExceeded(f"the model did not answer in {allowed * 1000:.0f} ms") from exc
        if answer[:1] != _OK:
            raise VersionUnavailable("no model replica that answers holds this version; try again")
        return np.frombuffer(answer, np.float32, offset=1)
