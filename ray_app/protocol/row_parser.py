"""From decoded JSON to rows: validation of a request's features, with an error for each wrong field."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from data.errors import InvalidRow, RayscoreError
from data.feature_views.events.event_parser import integer_key, parse_time, text_key
from data.schema.features.feature import Feature, Source
from data.transform.derived_time import derive_value
from data.transform.encoding import Transform, json_type
from data.transform.missing import is_blank
from ray_app.prediction import Row
from ray_app.protocol.text_fields import TextFields
from ray_app.protocol.window_fields import WindowFields
from tune.registry.bundle import BundleManifest

# Unknown fields named in one answer: a hint costs tens of microseconds, and a body can have 100,000 names.
_MOST_UNKNOWN = 3
_MOST_KNOWN = 30
# The decoder makes a float of a longer one.
_INTEGER = "an integer of at most 64 bits"


class RefusedItem(RayscoreError):
    """One item of a request is not valid; `errors` has one error for each wrong field."""

    def __init__(self, errors: Sequence[InvalidRow]) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = tuple(errors)


class RowParser:
    """Validates JSON objects against one model's schema, and encodes their features."""

    def __init__(self, manifest: BundleManifest, transform: Transform) -> None:
        self._online_only = {f.name for f in manifest.schema_.features if f.source is Source.ONLINE}
        self._fields = tuple(
            (encoder.feature.name, encoder, encoder.feature.required and not encoder.feature.is_derived)
            for encoder in transform.encoders
        )
        self._entity = manifest.entity
        self._key = manifest.key
        self._time = manifest.event_time
        self._derived = tuple(
            (at, encoder) for at, encoder in enumerate(transform.encoders) if encoder.feature.derive is not None
        )
        self._texts = TextFields(manifest.schema_)
        self._computed = {f.name: f.inputs for f in manifest.schema_.features if f.is_derived}
        self._windows = WindowFields(manifest) if manifest.windows else None
        self._served = {f.name: f for f in manifest.schema_.features if f.is_window or f.is_expression}
        self._not_sent = self._online_only | self._computed.keys() | self._served.keys()
        # Of a time that several features come from, whether one of them is required.
        self._times: dict[str, bool] = {}
        for _, encoder in self._derived:
            for name in encoder.feature.inputs:
                self._times[name] = self._times.get(name, False) or encoder.feature.required
        entity = {manifest.entity.column} if manifest.entity else set()
        sent = set(manifest.schema_.columns) - self._online_only
        events = (self._windows.names if self._windows is not None else frozenset()) - self._not_sent
        self._known = sent | entity | events | ({self._key} if self._key else set())

    def parse(self, item: Any, event_key: str = "", *, scratch: bool = False) -> Row:
        """Return the row of one decoded JSON object.

        Args:
            item: the object.
            event_key: key of the row's events when it names none.
            scratch: whether the row is answered from scratch stores, as of its time, which it must have.

        Raises:
            RefusedItem: it is no object, or fields are unknown, missing or wrong; names each of them.
        """
        if not isinstance(item, dict):
            raise RefusedItem([InvalidRow(None, f"expected an object with the features, got {json_type(item)}")])
        errors: list[InvalidRow] = []
        replayed_us = self._replayed_us(item, errors) if scratch else None
        if not item.keys() <= self._known and not (scratch and item.keys() - self._known == {self._time}):
            errors += self._unknown_fields(item)
        entity = self._parse_entity(item, errors)
        encoded = self._encode(item, errors)
        if self._derived:
            self._derive(item, encoded, errors)
        if self._texts.any:
            self._texts.fill(item, encoded, errors)
        key = self._parse_key(item, errors)
        query = self._windows.parse(item, event_key, errors) if self._windows is not None else None
        if errors:
            raise RefusedItem(errors)
        return Row(entity, key, encoded, item, query, replayed_us)

    def _replayed_us(self, item: dict[str, Any], errors: list[InvalidRow]) -> int | None:
        """Return the time as of which a row is answered; one without is an error."""
        if self._time is None:
            errors.append(InvalidRow(None, "the model has no event time, as of which scratch stores answer"))
            return None
        replayed_us = parse_time(self._time, item.get(self._time), errors)
        if replayed_us is None and is_blank(item.get(self._time)):
            errors.append(InvalidRow(self._time, "is required: scratch stores answer as of the row's time"))
        return replayed_us

    def _encode(self, item: dict[str, Any], errors: list[InvalidRow]) -> list[float | None]:
        encoded: list[float | None] = []
        for name, encoder, required in self._fields:
            value = item.get(name)
            # Most values are neither None nor falsy, and what is missing is: the cheap questions first.
            if value is None or (not value and encoder.is_missing(value)) or name in self._not_sent:
                encoded.append(None)
                if required:
                    errors.append(InvalidRow(name, "is required"))
                continue
            try:
                encoded.append(encoder.accept(value))
            except InvalidRow as exc:
                errors.append(exc)
        return encoded

    def _derive(self, item: dict[str, Any], encoded: list[float | None], errors: list[InvalidRow]) -> None:
        times = {name: self._parse_time(item, name, errors) for name in self._times}
        for at, encoder in self._derived:
            value = derive_value(encoder.feature, times)
            try:
                accepted = None if value is None else encoder.accept(value)
            except InvalidRow as exc:
                errors.append(exc)
            else:
                # With an error there may be fewer values than features, and none of them is used.
                if not errors:
                    encoded[at] = accepted

    def _parse_time(self, item: dict[str, Any], name: str, errors: list[InvalidRow]) -> int | None:
        value = item.get(name)
        if is_blank(value):
            if self._times[name]:
                errors.append(InvalidRow(name, "is required"))
            return None
        return parse_time(name, value, errors)

    def _parse_entity(self, item: dict[str, Any], errors: list[InvalidRow]) -> str | None:
        if self._entity is None:
            return None
        column, value = self._entity.column, item.get(self._entity.column)
        if is_blank(value):
            errors.append(InvalidRow(column, "is required: it is the key of the online features"))
            return None
        return (integer_key if self._entity.type == "integer" else text_key)(column, value, errors)

    def _parse_key(self, item: dict[str, Any], errors: list[InvalidRow]) -> str | int | None:
        key = item.get(self._key) if self._key else None
        if type(key) is int:
            return key
        if is_blank(key):
            return None
        if isinstance(key, str):
            return key
        # No other number comes back as it was sent: 1e2 would as 100.0, and of a longer one the last digits are lost.
        errors.append(InvalidRow(self._key, f"expected a string or {_INTEGER}, got {json_type(key)}"))
        return None

    def _unknown_fields(self, item: dict[str, Any]) -> list[InvalidRow]:
        unknown = [name for name in item if name not in self._known]
        errors = [self._unknown(name) for name in unknown[:_MOST_UNKNOWN]]
        if len(unknown) > _MOST_UNKNOWN:
            errors.append(InvalidRow(None, f"{len(unknown) - _MOST_UNKNOWN:,} more unknown fields"))
        return errors

    def _unknown(self, name: str) -> InvalidRow:
        shown = name if len(name) <= 80 else name[:77] + "..."
        if name in self._online_only:
            return InvalidRow(shown, "is read from the online store; do not send it")
        if name in self._computed:
            columns = " and ".join(f"'{column}'" for column in self._computed[name])
            return InvalidRow(shown, f"is derived by the service; send {columns} instead")
        if name in self._served:
            return InvalidRow(shown, f"is computed by the service {_computed_from(self._served[name])}; do not send it")
        near = difflib.get_close_matches(name[:80], self._known, n=1, cutoff=0.5)
        known = ", ".join(sorted(self._known)[:_MOST_KNOWN])
        hint = f"did you mean '{near[0]}'?" if near else f"known fields: {known}"
        return InvalidRow(shown, f"unknown field; {hint}")


def _computed_from(feature: Feature) -> str:
    return "from events" if feature.is_window else f"as {feature.expression}"
