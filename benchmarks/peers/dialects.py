"""How each server wants to be asked: path, body, and where in its reply the answer is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _as_is(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Dialect:
    """`wrap` makes a server's body of a request, `unwrap` the answer of a decoded reply.

    `ready` answers 200 when the server can be asked; with None a prediction itself is tried.
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
