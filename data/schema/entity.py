"""The entity of a use case: whose rows the online store holds."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from data.errors import ConfigError
from data.schema.duration import parse_duration
from data.schema.model_policy import PolicyTable


class Entity(PolicyTable):
    """The entity: the column whose values are the keys of the online store."""

    column: str
    type: Literal["string", "integer"] = "string"
    ttl: str | None = None
    """How long after its event time an online row is used, e.g. "30d", "12h"; no value: for ever."""

    @model_validator(mode="after")
    def _whole_seconds(self) -> Entity:
        try:
            seconds = parse_duration(self.ttl) if self.ttl is not None else 0
        except ConfigError as exc:
            raise ValueError(f"ttl {exc}") from exc
        if seconds % 1:
            raise ValueError(f"ttl '{self.ttl}' is not whole seconds, in which rows age")
        return self

    @property
    def ttl_seconds(self) -> int | None:
        """The time to live in seconds, counted from a row's event time."""
        return None if self.ttl is None else int(parse_duration(self.ttl))
