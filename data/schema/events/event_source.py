"""Sources of events: what happened to which entities, when, with which values, and since when it is known."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from data.errors import ConfigError
from data.schema.duration import parse_duration
from data.schema.model_policy import PolicyTable

DEFAULT_DECIMALS = 6
"""Decimal places that a number of an event keeps where none are declared."""


class EventValue(PolicyTable):
    """A value that each event of a source may have."""

    type: Literal["number", "integer", "boolean", "string"] = "number"
    decimals: Annotated[int, Field(ge=0, le=9)] | None = None
    """Decimal places of a number; it is kept as a whole number of them, so that sums are exact. Default 6."""

    @model_validator(mode="after")
    def _number(self) -> EventValue:
        if self.decimals is not None and self.type != "number":
            raise ValueError(f"decimals belong to type 'number', not '{self.type}'")
        return self

    @property
    def places(self) -> int:
        """Decimal places in force: 0 for whatever is no number."""
        if self.type != "number":
            return 0
        return DEFAULT_DECIMALS if self.decimals is None else self.decimals

    @property
    def is_numeric(self) -> bool:
        """Whether it can be added up."""
        return self.type != "string"


class EventEntity(PolicyTable):
    """An entity of a source's events: one column, or several together as a pair (a card at a terminal)."""

    name: str
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    type: Literal["string", "integer"] = "string"
    """How a key of one column is written; those of several columns are text."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value, "columns": (value,)}
        if isinstance(value, dict) and "columns" in value and "name" not in value:
            return {"name": "+".join(map(str, value["columns"])), **value}
        if isinstance(value, dict) and "columns" not in value and "name" in value:
            return {"columns": (value["name"],), **value}
        return value


class EventSource(PolicyTable):
    """One source of events. Without `key` and `time` its events are the rows of the use case's own table."""

    entities: Annotated[tuple[EventEntity, ...], Field(min_length=1)]
    """Whose events these are: names of columns, or { name, type }, or { columns } for a pair."""
    values: dict[str, EventValue] = Field(default_factory=dict)
    """What an event holds, by column: names alone for numbers, or { column = { type, decimals } }."""
    key: str | None = None
    """Column that identifies an event."""
    time: str | None = None
    """Column with the time of an event."""
    known_at: str | None = None
    """Column with the time since when the event's values are known; without it and without delay, its own time."""
    delay: str | None = None
    """How long after its time an event's values are known, e.g. "7d" for a label."""
    record: bool = False
    """Whether the row that /predict scores becomes an event."""

    @model_validator(mode="before")
    @classmethod
    def _named_values(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("values"), list):
            value = {**value, "values": {name: {} for name in value["values"]}}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> EventSource:
        if (self.key is None) != (self.time is None):
            raise ValueError("give both key and time, or neither for the rows of the use case's own table")
        if self.known_at is not None and self.delay is not None:
            raise ValueError("give either known_at, a column, or delay, a duration")
        if self.record and not self.own:
            raise ValueError("record belongs to the rows of the use case's own table: leave out key and time")
        if self.record and self.delayed:
            raise ValueError("record takes what is known with the row: leave out known_at and delay")
        names = [entity.name for entity in self.entities]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"entities: {twice!r} is named twice")
        try:
            self.delay_us  # noqa: B018  read for its error
        except ConfigError as exc:
            raise ValueError(f"delay {exc}") from exc
        return self

    @property
    def own(self) -> bool:
        """Whether the events are the rows of the use case's own table."""
        return self.key is None

    @property
    def delayed(self) -> bool:
        """Whether an event may be known later than it happened."""
        return self.known_at is not None or self.delay is not None

    @property
    def delay_us(self) -> int:
        """How long after its time an event is known, in microseconds."""
        return 0 if self.delay is None else round(parse_duration(self.delay) * 1_000_000)

    @property
    def entity_columns(self) -> tuple[str, ...]:
        """The columns of all entities, each once."""
        return tuple(dict.fromkeys(column for entity in self.entities for column in entity.columns))

    def entity(self, name: str) -> EventEntity | None:
        """Return the entity of a name, None when there is none."""
        return next((entity for entity in self.entities if entity.name == name), None)

    def value(self, name: str) -> EventValue | None:
        """Return the value of a name, declared or a column of an entity (which is text); None when there is none."""
        if name in self.values:
            return self.values[name]
        return EventValue(type="string") if name in self.entity_columns else None

    @property
    def fingerprint(self) -> str:
        """Hash (8 hex digits) of what an event of this source is made of: stored events of another are never read."""
        said = self.model_dump(mode="json", include={"entities", "values", "known_at", "delay"})
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]
