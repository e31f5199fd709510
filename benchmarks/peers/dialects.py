"""Request and response format of each server: path, body, and where in a response the predictions are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _as_is(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Dialect:
    """A server's format: `wrap` turns a row into its request body, `unwrap` a decoded response into the prediction.

    `ready` is a path that responds with 200 once the server is ready; None when only a prediction can tell.
    """

    path: str = "/predict"
    ready: str | None = "/ready"
    wrap: Callable[[Any], Any] = _as_is
    unwrap: Callable[[Any], Any] = _as_is


def _v2_request(body: Any) -> dict[str, Any]:
    row = {"name": "row", "shape": [1], "datatype": "BYTES", "data": [json.dumps(body)]}
    return {"inputs": [row]}


DIALECTS = {
    "plain": Dialect(),
    "bentoml": Dialect(ready="/readyz"),
    "litserve": Dialect(ready="/health"),
    "ray-tutorial": Dialect(ready=None),
    "kserve": Dialect(
        "/v1/models/card_fraud:predict",
        "/v2/health/ready",
        lambda body: {"instances": [body]},
        lambda reply: reply["predictions"][0],
    ),
    "mlserver": Dialect(
        "/v2/models/card_fraud/infer",
        "/v2/health/ready",
        _v2_request,
        lambda reply: json.loads(reply["outputs"][0]["data"][0]),
    ),
}
"""By name."""
