"""JSON responses: predictions, and errors as problem details (RFC 9457)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson

from data.errors import (
    ControlUnavailable,
    DeadlineExceeded,
    InvalidRow,
    ModelNotFound,
    Overloaded,
    RayscoreError,
    SchemaMismatch,
    StoreUnavailable,
    VersionUnavailable,
)
from data.schema.features.feature import Feature, FeatureType
from data.schema.features.value_source import ValueSource
from data.transform.derived_time import derive_sent
from data.transform.encoding import Transform
from ray_app.prediction import Prediction
from ray_app.protocol.row_parser import RefusedItem
from tune.registry.bundle import BundleManifest

JSON = b"application/json"
PROBLEM = b"application/problem+json"
_EPOCH = datetime(1970, 1, 1)

_STATUS: dict[type[Exception], tuple[int, str]] = {
    RefusedItem: (422, "The features are not valid"),
    InvalidRow: (422, "The features are not valid"),
    Overloaded: (503, "The service is full"),
    DeadlineExceeded: (504, "The request took too long"),
    ModelNotFound: (404, "No such version"),
    SchemaMismatch: (503, "A new model is being rolled out"),
    ControlUnavailable: (503, "Control does not answer"),
    VersionUnavailable: (503, "A new model is being rolled out"),
    StoreUnavailable: (503, "The online store does not answer"),
}


class HttpProblem(RayscoreError):
    """An error with an HTTP status, title and headers of its own, e.g. 400 or 405; `errors` name fields at fault."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        headers: dict[str, str] | None = None,
        errors: Sequence[InvalidRow] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.headers = headers or {}
        self.errors = tuple(errors)


class ResponseRenderer:
    """Renders the predictions of one model version."""

    def __init__(self, manifest: BundleManifest, transform: Transform, version: str) -> None:
        self._manifest = manifest
        self._encoders = transform.encoders
        self.output = manifest.output
        self.version = version
        self._windows = {window.name: at for at, window in enumerate(manifest.windows)}
        self._expressions = {feature.name: at for at, feature in enumerate(manifest.schema_.expressions)}
        online = [feature.name for feature in manifest.schema_.online]
        self._stored_at = {name: at for at, name in enumerate(online)}

    def render(self, prediction: Prediction, request_id: str, detail: bool, epoch: int) -> dict[str, Any]:
        """Return the JSON object of one prediction; with `detail`, also each feature's value and its source.

        `epoch` is that of the traffic rules by which this version answers.
        """
        windows = prediction.lookup.windows
        answer: dict[str, Any] = {
            **self.output.fields(prediction.scores),
            "model": {"name": self._manifest.name, "version": self.version, "epoch": epoch},
            "entity_found": prediction.lookup.found,
            "online_age_s": prediction.lookup.age_s,
            "degraded": prediction.lookup.degraded,
            "request_id": request_id,
        }
        if prediction.row.key is not None:
            answer["key"] = prediction.row.key
        if prediction.row.records:
            answer["recorded"] = windows is not None and windows.recorded
        if detail:
            if windows is not None:
                answer["event_time"] = _iso(windows.time_us)
                answer["newest_event_age_s"] = windows.newest_age_s
            answer["features"] = self.features(prediction)
        return answer

    def features(self, prediction: Prediction) -> dict[str, dict[str, Any]]:
        """Return by feature the value that was used, its `source`, and `unseen` for a category unknown to the model.

        A window feature also has `events`, the number of events that it was computed from; null when it was not.
        """
        return {name: self._feature(i, prediction) for i, name in enumerate(self._manifest.schema_.names)}

    def value(self, i: int, prediction: Prediction) -> Any:
        """Return the value of feature i in schema order that was used, None when it was missing."""
        return self._feature(i, prediction)["value"]

    def _feature(self, i: int, prediction: Prediction) -> dict[str, Any]:
        encoder = self._encoders[i]
        feature = encoder.feature
        value: Any = feature.default
        source = ValueSource.DEFAULT
        if prediction.row.encoded[i] is not None:
            sent = prediction.row.values
            if feature.score is not None:
                # Computed when the text was parsed: again would take as long, for each of its scores.
                value = prediction.row.encoded[i]
            else:
                value = sent[feature.name] if feature.derive is None else derive_sent(feature, sent)
            source = ValueSource.REQUEST
        elif feature.is_window or feature.is_expression:
            computed = self._computed_value(feature, prediction)
            if computed is not None:
                value, source = computed, ValueSource.EVENTS if feature.is_window else ValueSource.COMPUTED
        elif prediction.lookup.online is not None and feature.name in self._stored_at:
            stored = prediction.lookup.online.values[self._stored_at[feature.name]]
            if stored is not None:
                value, source = stored, ValueSource.ONLINE
        rendered: dict[str, Any] = {"value": value, "source": source.value}
        if value is not None and encoder.unseen(value):
            rendered["unseen"] = True
        if feature.is_window:
            windows = prediction.lookup.windows
            rendered["events"] = windows.counts[self._windows[feature.name]] if windows is not None else None
        return rendered

    def _computed_value(self, feature: Feature, prediction: Prediction) -> float | int | str | None:
        """Return the value of a window or an expression, None when it is missing."""
        windows = prediction.lookup.windows
        value: float | str = math.nan
        if feature.is_expression:
            value = prediction.computed[self._expressions[feature.name]]
        elif windows is not None:
            value = windows.values[self._windows[feature.name]]
        if isinstance(value, str):
            return value
        if math.isnan(value):
            return None
        return int(value) if feature.type is FeatureType.INTEGER and value == int(value) else value


def problem(error: Exception, request_id: str) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the problem details of an error; 500 for one that is not ours."""
    if isinstance(error, HttpProblem):
        status, title = error.status, error.title
    else:
        known = next((kind for kind in type(error).__mro__ if kind in _STATUS), None)
        status, title = _STATUS[known] if known else (500, "Something went wrong in the service")
    # The text of an unexpected error may hold internals: clients get the id to find it in the log.
    detail = str(error) if status != 500 else "The error is in the service's log under this request id."
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    if isinstance(error, (RefusedItem, HttpProblem)) and error.errors:
        body["errors"] = [{"field": e.field, "reason": e.reason} for e in error.errors]
    return status, body


def dumps(value: Any) -> bytes:
    """Encode a value as JSON; NaN and infinity become null."""
    return orjson.dumps(value)


def _iso(time_us: int) -> str:
    """Return a time in microseconds since 1970 UTC as ISO 8601 text."""
    return f"{_EPOCH + timedelta(microseconds=time_us):%Y-%m-%dT%H:%M:%S.%f}Z"


def finite(metrics: dict[str, float]) -> dict[str, float | None]:
    """Replace metrics that JSON cannot represent, NaN and infinity, by None."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
