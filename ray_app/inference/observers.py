"""The interface of observers: version statistics, shadows and the prediction log see each answer after it was sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ray_app.prediction import Prediction
from ray_app.protocol.responses import ResponseRenderer


class Answered(NamedTuple):
    """One answered row.

    `prediction` has the row as sent, its look-up in the online store, the scored vector and the scores; `code` is the
    position of the label that was answered, None where none was. `renderer.features` gives each feature's value and
    source, and `renderer.output` says what the scores are. `latency_s` is the request's, from its headers to the end of
    its response, in seconds. `epoch` is that of the traffic rules in force. `named` is True when the request asked for
    this version by header.
    """

    version: str
    epoch: int
    request_id: str
    latency_s: float
    prediction: Prediction
    code: int | None
    renderer: ResponseRenderer
    named: bool = False


class Failed(NamedTuple):
    """Rows of one request that one version did not answer.

    `rows` is their number; `status` is the HTTP status of the failure; `error` is the first row's error. The other
    fields are those of `Answered`.
    """

    version: str
    epoch: int
    request_id: str
    latency_s: float
    rows: int
    status: int
    error: Exception
    named: bool = False


class Observer(Protocol):
    """Receives every answer after its response was sent. Called on the event loop, so it must return quickly."""

    def answered(self, rows: Sequence[Answered]) -> None:
        """Receive the answered rows of one request."""
        ...

    def failed(self, failure: Failed) -> None:
        """Receive rows that were not answered; called once for each request, version and kind of failure."""
        ...
