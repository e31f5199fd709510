"""Whether the service under test stores the rows that it scores: a load test must not fill its windows unasked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.errors import ConfigError
from ray_app.protocol.openapi_events import RECORDED


def recorded_sources(document: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the sources of events that a service stores each scored row in, by its OpenAPI document; () for none."""
    try:
        named = (document or {})["components"]["schemas"]["Row"][RECORDED]
    except (KeyError, TypeError):
        return ()
    return tuple(map(str, named)) if isinstance(named, list) else ()


def require_consent(sources: tuple[str, ...], url: str, given: bool) -> None:
    """Raise ConfigError when a service stores what it scores and nobody has said that it may."""
    if sources and not given:
        raise ConfigError(
            f"{url} stores each row that it scores as an event of '{', '.join(sources)}', which windows count from "
            "then on: a load test would leave all of its rows there. Test a service with an event store of its own "
            "(RAYSCORE_EVENTS_FILE), or give --record to have them stored; nothing was sent"
        )
