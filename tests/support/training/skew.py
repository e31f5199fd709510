"""A service over real HTTP, sound or with one of the faults that the skew proof is there to find."""

from __future__ import annotations

import functools
import math
import socket
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import uvicorn

from data.schema.features.feature_schema import FeatureSchema
from data.transform.encoding import Transform
from ray_app.inference.models.model_scoring import LocalModel
from ray_app.inference.models.onnx_model import OnnxModel
from tests.support.serving.predict_app import ServedApp, build_app, local_store, write_store
from tests.support.training.models import card_bundle, card_table
from tune.registry.bundle import Bundle
from tune.registry.traffic_rules import TrafficRules
from tune.training.onnx_export import OnnxScorer

VERSION = "1"
TABLE = card_table(rows=400, seed=99)
STORED = {"device_trust_score": 0, "velocity_last_24h": 7, "cardholder_age": 33}
"""What the store holds of every user of the table."""


def served_app(folder: Path, **parts: Any) -> ServedApp:
    """The HTTP application as version 1, with every user of TABLE in its store."""
    users = {user: STORED for user in set(TABLE.column("user_id").to_pylist())}
    store = local_store(write_store(folder / "online.db", users))
    rules = TrafficRules(use_case="card_fraud", champion=VERSION, epoch=1)
    bundle = parts.pop("bundle", card_bundle())
    return build_app(parts.pop("features", store), bundle=bundle, rules=rules, bundles={VERSION: bundle}, **parts)


@contextmanager
def listening(app: Callable[..., Any]) -> Iterator[str]:
    """Serve an ASGI application by HTTP in a thread of its own; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@functools.cache
def other_vocabulary() -> Bundle:
    """The model with its category codes in another order: what comes of two encoders that were fitted apart."""
    bundle = card_bundle()
    features = tuple(
        each.model_copy(update={"vocabulary": each.vocabulary[::-1]}) if each.vocabulary else each
        for each in bundle.manifest.schema_.features
    )
    schema = FeatureSchema(features=features)
    scores = OnnxScorer(bundle.onnx).scores(Transform(schema).rows(bundle.manifest.probe.rows))
    probe = bundle.manifest.probe.model_copy(update={"scores": scores.tolist()})
    return Bundle(
        bundle.manifest.model_copy(update={"schema_": schema, "probe": probe}),
        bundle.onnx,
        bundle.booster,
        bundle.measured,
        bundle.card,
    )


class ZeroIsMissing:
    """A model stage that takes zeros for missing values."""

    def __init__(self) -> None:
        self._model = LocalModel(OnnxModel(card_bundle()))

    async def score(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Score without the zeros."""
        return await self._model.score(np.where(matrix == 0, np.float32(np.nan), matrix), timeout_s)


def zero_or_default(app: Callable[..., Any], **defaults: Any) -> Callable[..., Any]:
    """An application before which `row[name] or default` is done to each row."""

    async def wrapped(scope: MutableMapping[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        body = b""
        while scope["method"] == "POST":
            message = await receive()
            body += message["body"]
            if not message.get("more_body"):
                break
        rows = [
            {**row, **{name: row[name] or default for name, default in defaults.items() if name in row}}
            for row in (orjson.loads(body) if body else [])
        ]
        left = [{"type": "http.request", "body": orjson.dumps(rows)}] if body else []

        async def replay() -> MutableMapping[str, Any]:
            return left.pop() if left else await receive()

        headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        await app({**scope, "headers": headers}, replay, send)

    return wrapped


def stored_table(**changed: Any) -> pa.Table:
    """The table that was materialized into the store of `served_app`."""
    users = sorted(set(TABLE.column("user_id").to_pylist()))
    values = {**STORED, **changed}
    moment = TABLE.column("timestamp")[0]
    columns = {name: [value] * len(users) for name, value in values.items()}
    return pa.table({"user_id": users, "timestamp": pa.array([moment.as_py()] * len(users), moment.type), **columns})
