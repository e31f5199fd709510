"""What the OpenAPI document says of windows: the fields of a row that they need, and `POST /events`."""

from __future__ import annotations

from typing import Any

from data.schema.events.event_source import EventSource
from data.transform.time_values import EXPECTED
from ray_app.protocol.window_fields import own_sources, slice_entities
from tune.registry.bundle import BundleManifest

ENTITY_TEXT = "Windows count the events of this entity"
"""Describes the fields of a row with the key of an entity."""
RECORDED = "x-recorded-events"
"""Extension of the row's schema: the sources of events that a scored row is stored in."""
_EXAMPLES = {"string": "example", "boolean": False}
_TIME: dict[str, Any] = {"oneOf": [{"type": "string"}, {"type": "integer"}]}
_KEY: dict[str, Any] = {"oneOf": [{"type": "string"}, {"type": "integer"}], "nullable": True}


def entity_types(manifest: BundleManifest) -> dict[str, str]:
    """Return the JSON type of each column of the entities whose events windows count, by name."""
    return {
        name: "integer" if entity.type == "integer" and len(entity.columns) == 1 else "string"
        for entity in slice_entities(manifest)
        for name in entity.columns
    }


def example_fields(manifest: BundleManifest) -> dict[str, Any]:
    """Return made-up values of the fields that windows need: entities and the values of the row's own events."""
    values = {
        name: _EXAMPLES.get(value.type, 1)
        for source in own_sources(manifest).values()
        for name, value in source.values.items()
    }
    return {name: 0 if kind == "integer" else "example" for name, kind in entity_types(manifest).items()} | values


def recorded(manifest: BundleManifest) -> dict[str, list[str]]:
    """Return what the row's schema says of recording: nothing where a scored row is not stored."""
    names = [name for name, source in own_sources(manifest).items() if source.record]
    return {RECORDED: names} if names else {}


def window_properties(manifest: BundleManifest) -> dict[str, Any]:
    """Return the fields of a row that windows need, beside its features and its key."""
    properties: dict[str, Any] = {}
    for source in own_sources(manifest).values():
        properties |= _values(source)
    for name, kind in entity_types(manifest).items():
        properties[name] = {"type": kind, "description": ENTITY_TEXT}
    if manifest.event_time is not None:
        text = f"{EXPECTED[0].upper()}{EXPECTED[1:]}. Windows are those of this time; left out, of the present."
        properties[manifest.event_time] = {**_TIME, "nullable": True, "description": text}
    return properties


def events_operation(manifest: BundleManifest, max_items: int) -> dict[str, Any]:
    """Return the operation that takes events."""
    read = {window.source for window in manifest.windows}
    bodies = [_body(manifest, name, max_items) for name in manifest.events if name in read]
    counts = {name: {"type": "integer"} for name in ("taken", "repeated", "revised", "superseded", "conflict")}
    refused = {"type": "array", "items": {"type": "object"}, "description": "By `index`, with the fields at fault"}
    answer = {"type": "object", "properties": {**counts, "refused": refused, "request_id": {"type": "string"}}}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    failures = {"401": "Wrong token", "403": "Closed: no token is set", "422": "No events of a source"}
    return {
        "summary": "Add events that windows count; needs the token",
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"oneOf": bodies}}}},
        "responses": {
            "200": {"description": "What became of each event", "content": {"application/json": {"schema": answer}}},
            **{code: {"description": text, "content": problem} for code, text in failures.items()},
        },
    }


def _body(manifest: BundleManifest, name: str, max_items: int) -> dict[str, Any]:
    source = manifest.events[name]
    key, time = source.key or manifest.key or "", source.time or manifest.event_time or ""
    known = {source.known_at: {**_TIME, "description": "Since when it is known"}} if source.known_at else {}
    event = {
        "type": "object",
        "properties": {key: _KEY, time: {**_TIME, "description": "When it happened"}, **known, **_values(source)},
        "required": [time, *known],
        "additionalProperties": False,
    }
    events = {"oneOf": [event, {"type": "array", "items": event, "minItems": 1, "maxItems": max_items}]}
    return {
        "type": "object",
        "properties": {"source": {"type": "string", "enum": [name]}, "events": events},
        "required": ["source", "events"],
    }


def _values(source: EventSource) -> dict[str, Any]:
    entities: dict[str, Any] = {name: {**_KEY, "description": "Entity"} for name in source.entity_columns}
    return entities | {
        name: {"type": value.type, "nullable": True, "description": "Value of an event"}
        for name, value in source.values.items()
    }
