"""The OpenAPI document of one model: its request fields, with an example request that the service accepts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from data.schema.features.feature import Feature, FeatureType, Scalar, Source
from data.schema.output import Output
from data.transform.time_values import EXPECTED
from ray_app.protocol.explanation_fields import PARAMETER, PROPERTIES
from ray_app.protocol.openapi_events import events_operation, example_fields, recorded, window_properties
from ray_app.protocol.text_fields import TEXT_FIELD
from ray_app.protocol.window_fields import WindowFields
from tune.registry.bundle import BundleManifest

_TYPES = {
    FeatureType.NUMBER: "number",
    FeatureType.INTEGER: "integer",
    FeatureType.BOOLEAN: "boolean",
    FeatureType.CATEGORY: "string",
}
_SHOWN_CATEGORIES = 50
_EXAMPLE_TIME = "2024-01-01T00:00:00Z"


def example(manifest: BundleManifest) -> dict[str, Any]:
    """Return an example request that the model answers: a made-up entity, and typical values."""
    body: dict[str, Any] = {}
    if manifest.entity is not None:
        body[manifest.entity.column] = "example" if manifest.entity.type == "string" else 0
    for feature in manifest.schema_.features:
        if feature.derive is not None:
            body |= {name: manifest.example.get(name, _EXAMPLE_TIME) for name in feature.inputs}
        elif feature.score is not None:
            body |= {name: manifest.example.get(name, "text") for name in feature.inputs}
        elif feature.source is Source.REQUEST:
            body[feature.name] = _example_value(manifest, feature)
    if manifest.windows:
        body = example_fields(manifest) | body
    return body


def _example_value(manifest: BundleManifest, feature: Feature) -> Scalar:
    """A typical value, or for an old bundle without any, one that the declaration allows."""
    # Not from the bundle's probe rows: old bundles have rows of real people there.
    typical = manifest.example.get(feature.name, feature.default)
    if typical is not None:
        return typical
    if feature.type is FeatureType.CATEGORY:
        return next(iter(manifest.shown_words(feature)), "example")
    if feature.type is FeatureType.BOOLEAN:
        return False
    low = feature.min if feature.min is not None else min(0.0, feature.max or 0.0)
    high = feature.max if feature.max is not None else max(low, 1.0)
    middle = (low + high) / 2
    # Whole where there is a whole number in the range, and still within it.
    whole = min(max(math.floor(middle), math.ceil(low)), math.floor(high))
    return whole if low <= whole <= high else middle


def openapi(manifest: BundleManifest, version: str, max_items: int) -> dict[str, Any]:
    """Return the document, in OpenAPI 3.0: the bundled Swagger UI renders nothing newer."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": f"rayscore: {manifest.name}",
            "version": version,
            "description": manifest.description or f"Predicts {manifest.label}.",
        },
        "paths": {
            "/predict": {"post": _predict(manifest, max_items)},
            **({"/events": {"post": events_operation(manifest, max_items)}} if manifest.windows else {}),
            "/health": {"get": _get("Liveness: the process answers", {"status": {"type": "string"}})},
            "/ready": {"get": _ready()},
            "/model/info": {"get": _get("The model served: features, what it answers, metrics", {})},
            "/metrics": {
                "get": {"summary": "Prometheus metrics", "responses": {"200": {"description": "Text format"}}}
            },
        },
        "components": {
            "schemas": {"Row": _row(manifest), "Prediction": _prediction(manifest.output), "Problem": _problem()},
        },
    }


def _predict(manifest: BundleManifest, max_items: int) -> dict[str, Any]:
    row = {"$ref": "#/components/schemas/Row"}
    answer = {"$ref": "#/components/schemas/Prediction"}
    error = {"$ref": "#/components/schemas/Problem"}
    refused = {"type": "object", "properties": {"error": error}, "required": ["error"]}
    answers = {"type": "array", "items": {"oneOf": [answer, refused]}}
    many = {"type": "array", "items": row, "minItems": 1, "maxItems": max_items}
    one = example(manifest)
    return {
        "summary": f"Predict {manifest.label} for one row, or for an array of rows",
        "description": "Each item of an array is answered on its own: a bad one does not spoil the others.",
        "parameters": [
            {
                "name": "detail",
                "in": "query",
                "schema": {"type": "string", "enum": ["0", "1"], "default": "0"},
                "description": "1: each feature's value and where it came from",
            },
            PARAMETER,
            {
                "name": "x-request-timeout-ms",
                "in": "header",
                "schema": {"type": "integer", "minimum": 1},
                "description": "Time the answer may take; past it the answer is 504",
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"oneOf": [row, many]},
                    "examples": {"one": {"value": one}, "several": {"value": [one, one]}},
                }
            },
        },
        "responses": {
            "200": _json({"oneOf": [answer, answers]}, "The prediction"),
            **{code: _failure(text) for code, text in _FAILURES.items()},
        },
    }


_FAILURES = {
    "400": "Not JSON in UTF-8, a field named twice, a damaged content coding, or a wrong timeout or query",
    "408": "The body did not arrive in time",
    "413": "Body too large or too many items",
    "415": "Content type is not application/json in UTF-8, or the content coding is not gzip or deflate",
    "422": "A field is missing, unknown, of the wrong type or out of range; or no reasons are declared",
    "503": "Full, or a rollout is under way; Retry-After says when to try again",
    "504": "The time allowed for the request is spent",
}


def _row(manifest: BundleManifest) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required = []
    if manifest.entity is not None:
        kind = "string" if manifest.entity.type == "string" else "integer"
        properties[manifest.entity.column] = {"type": kind, "description": "Key of the online features"}
        required.append(manifest.entity.column)
    for feature in manifest.schema_.features:
        if feature.source in (Source.REQUEST, Source.EITHER) and not feature.is_derived:
            properties[feature.name] = _feature(feature, manifest.shown_words(feature))
            required += [feature.name] if feature.required else []
    inputs = _times(manifest) | _texts(manifest)
    properties |= inputs
    required += [name for name, described in inputs.items() if "nullable" not in described]
    if manifest.windows:
        properties = window_properties(manifest) | properties
        required += [name for name in WindowFields(manifest).required if name not in required]
    if manifest.key is not None:
        properties[manifest.key] = {
            "oneOf": [{"type": "string"}, {"type": "integer", "minimum": -(2**63), "maximum": 2**64 - 1}],
            "nullable": True,
            "description": "Optional; comes back in the answer as `key`, as it was sent",
        }
    return {
        "type": "object",
        "description": "null or '' is the same as leaving a field out, unless '' is a value of a category.",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        **(recorded(manifest) if manifest.windows else {}),
        "example": example(manifest),
    }


def _feature(feature: Feature, shown: Sequence[str]) -> dict[str, Any]:
    where = "If left out, read from the online store." if feature.source is Source.EITHER else ""
    default = f"Default {feature.default!r}." if feature.default is not None else ""
    more = len(feature.vocabulary or ()) - len(shown)
    words = ", ".join(word or "''" for word in shown)
    known = f"Known: {words}{f', and {more} rare ones' if more else ''}." if shown else ""
    if len(shown) > _SHOWN_CATEGORIES:
        known = ""
    empty = "'' is a value." if feature.empty_is_value else ""
    text = " ".join(part for part in (feature.description, where, default, known, empty) if part)
    kind: dict[str, Any] = {"type": _TYPES[feature.type]}
    if text:
        kind["description"] = text
    if not feature.required:
        kind["nullable"] = True
    if feature.min is not None:
        kind["minimum"] = feature.min
    if feature.max is not None:
        kind["maximum"] = feature.max
    return kind


def _times(manifest: BundleManifest) -> dict[str, Any]:
    """The fields with the times that features are derived from."""
    derived: dict[str, list[Feature]] = {}
    for feature in manifest.schema_.derived:
        for name in feature.inputs:
            derived.setdefault(name, []).append(feature)
    return {name: _time(features) for name, features in derived.items()}


def _texts(manifest: BundleManifest) -> dict[str, Any]:
    """The fields with texts."""
    found: dict[str, Any] = {}
    for feature in manifest.schema_.scores:
        described = {"description": feature.description} if feature.description else {}
        found[feature.inputs[0]] = TEXT_FIELD | described | ({} if feature.required else {"nullable": True})
    return found


def _time(features: Sequence[Feature]) -> dict[str, Any]:
    described = [f"{feature.name}{f' ({feature.description})' if feature.description else ''}" for feature in features]
    kind: dict[str, Any] = {
        "oneOf": [{"type": "string"}, {"type": "integer"}],
        "description": f"{EXPECTED[0].upper()}{EXPECTED[1:]}. Derived from it: {', '.join(described)}.",
    }
    return kind if any(feature.required for feature in features) else {**kind, "nullable": True}


def _prediction(output: Output) -> dict[str, Any]:
    answered = output.field_schemas() | output.ranked_schemas()
    return {
        "type": "object",
        "properties": {
            **answered,
            "model": {"type": "object", "properties": {"name": {"type": "string"}, "version": {"type": "string"}}},
            "entity_found": {
                "type": "boolean",
                "nullable": True,
                "description": "null: store not asked or failed",
            },
            "online_age_s": {"type": "number", "nullable": True, "description": "Age of the online values in seconds"},
            "degraded": {"type": "boolean", "description": "A store failed: defaults took its place"},
            "recorded": {
                "type": "boolean",
                "description": "Of a use case that records: whether the event store holds the row as an event",
            },
            "event_time": {"type": "string", "description": "With detail=1: the time that windows are of"},
            "newest_event_age_s": {
                "type": "number",
                "nullable": True,
                "description": "With detail=1: age of the newest event in the windows",
            },
            "request_id": {"type": "string"},
            "key": {"description": "The key that was sent"},
            "features": {"type": "object", "description": "With detail=1: value and source of each feature"},
            **PROPERTIES,
        },
        "required": [*answered, "model", "entity_found", "online_age_s", "degraded", "request_id"],
    }


def _problem() -> dict[str, Any]:
    text = {"type": "string"}
    error = {"type": "object", "properties": {"field": {**text, "nullable": True}, "reason": text}}
    members = {"type": text, "title": text, "status": {"type": "integer"}, "detail": text, "request_id": text}
    return {
        "type": "object",
        "description": "Problem details, RFC 9457",
        "properties": {**members, "errors": {"type": "array", "items": error}},
        "required": list(members),
    }


def _ready() -> dict[str, Any]:
    operation = _get(
        "Readiness: store and model answer", {"status": {"type": "string"}, "problems": {"type": "object"}}
    )
    operation["responses"]["503"] = {"description": "Not ready; `problems` says why"}
    return operation


def _get(summary: str, properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"summary": summary, "responses": {"200": _json(schema, "OK")}}


def _json(schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _failure(text: str) -> dict[str, Any]:
    problem = {"$ref": "#/components/schemas/Problem"}
    return {"description": text, "content": {"application/problem+json": {"schema": problem}}}
