"""The model stage: scores in this process, or in a model replica over a transport.

A request is the bundle's digest (8 bytes), the number of rows (uint32, little-endian) and the rows as float32; an
answer is one status byte and the rows' scores as float32. Both ends of this encoding are in this module.
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Callable

import numpy as np

from data.errors import DeadlineExceeded, VersionUnavailable
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.transport.connection_pool import Transport

_HEADER = struct.Struct("<8sI")
_OK, _NOT_LOADED = b"\0", b"\1"


class LocalModel:
    """A model stage that scores in this process."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model

    async def score(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Score the matrix; see `ModelStage`. `timeout_s` is ignored."""
        # On the event loop: a batch takes less time than handing it to a thread.
        return self._model.score(matrix)


class ModelServer:
    """The replica's end of `RemoteModel`.

    Args:
        models: returns the model of a bundle, by the bytes of its digest; None when it is not loaded here.
    """

    def __init__(self, models: Callable[[bytes], OnnxModel | None]) -> None:
        self._models = models

    def call(self, request: bytes) -> bytes:
        """Score the rows of a request by the bundle that it names; answer "not loaded" rather than use another one."""
        digest, rows = _HEADER.unpack_from(request)
        model = self._models(digest)
        if model is None:
            return _NOT_LOADED
        matrix = np.frombuffer(request, np.float32, offset=_HEADER.size).reshape(rows, model.width)
        return _OK + model.score(matrix).tobytes()


def is_absent_version(answer: bytes) -> bool:
    """True when a model replica answered that it has not loaded the bundle; another replica may have."""
    return answer[:1] == _NOT_LOADED


class RemoteModel:
    """A model stage that scores by one bundle in another replica.

    Args:
        transport: calls some model replica.
        digest: the bundle's digest, 16 hexadecimal digits.
        scored: number of scores of a row, the width of the bundle's output.
        timeout_s: longest time for one batch, in seconds, so that a replica that hangs does not keep a batch slot.
    """

    def __init__(self, transport: Transport, digest: str, scored: int, timeout_s: float) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._digest = bytes.fromhex(digest)
        self._scored = scored

    async def score(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Score on some replica; see `ModelStage`."""
        allowed = min(self._timeout_s, timeout_s)
        request = _HEADER.pack(self._digest, len(matrix)) + matrix.tobytes()
        try:
            answer = await self._transport(request, allowed)
        except asyncio.TimeoutError as exc:
            raise DeadlineExceeded(f"the model did not answer in {allowed * 1000:.0f} ms") from exc
        if answer[:1] != _OK:
            raise VersionUnavailable("no model replica that answers holds this version; try again")
        return np.frombuffer(answer, np.float32, offset=1).reshape(-1, self._scored)
