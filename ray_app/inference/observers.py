"""Who looks on as answers leave: tallies, shadows, the prediction log. Nobody waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ray_app.prediction import Prediction
from ray_app.protocol.responses import ResponseRenderer


class Answered(NamedTuple):
    """One answered row, with all that is known of it.

    `prediction` has the row as it was sent, the vector that was scored and what the store said; `answers.features`
    tells each feature's value and where it came from. `latency_s` is the request's, from its head to its answer.
    `named`: the request asked for this version by name, whatever the traffic rules say.
    """

    version: str
    epoch: int
    request_id: str
    latency_s: float
    prediction: Prediction
    label: int
    answers: ResponseRenderer
    named: bool = False


class Failed(NamedTuple):
    """Rows of one request that one version did not answer.

    `status` is what HTTP calls it, the same for all of them; `error` is the first one's. `named` as in Answered.
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
    """Told of every answer after it has left. Called on the event loop: what takes long belongs elsewhere."""

    def answered(self, rows: Sequence[Answered]) -> None:
        """Take note of the rows of one request that were answered."""
        ...

    def failed(self, failure: Failed) -> None:
        """Take note of rows that failed; once a request, version and status."""
        ...
