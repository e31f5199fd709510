"""POST /events: clients with the token add events of a source, each answered on its own. Disabled without a token."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import SecretStr

from data.errors import InvalidRow
from data.event_store import EventOutcome
from data.feature_views.events.event import Event, event_key
from data.feature_views.events.event_parser import EventParser
from data.schema.events.event_source import EventSource
from data.transform.encoding import json_type
from ray_app.http import request_options
from ray_app.http.bearer_token import BearerToken
from ray_app.http.request_options import read_request_id
from ray_app.inference.stages import WindowStage
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.protocol import json_body, responses
from ray_app.protocol.responses import HttpProblem
from ray_app.protocol.route import Route, RouteReply, RouteRequest
from tune.registry.bundle import BundleManifest

PATH = "/events"
"""Path of events."""

_OTHER_CONTENT = "the store has this event with other content, known since the same time; it stays as it is"


class EventLimits(NamedTuple):
    """Most bytes of a body, most events in it, and seconds that storing them may take."""

    body_bytes: int
    events: int
    timeout_s: float


class _Sent(NamedTuple):
    """The events of one request that are valid, with their places in it, and the errors of the others by place."""

    events: list[tuple[int, Event]]
    errors: dict[int, list[InvalidRow]]


class EventRoutes:
    """Takes events of one use case, and has the feature stage record them.

    Args:
        token: bearer token that every request must have; None disables the route.
        manifest: of the model: its windows and sources of events.
        stage: records; None for a model without windows, which takes no events.
        metrics: counts events by what became of them.
        limits: of one request.
        clock: returns the time in microseconds since 1970 UTC.
    """

    def __init__(
        self,
        token: SecretStr | None,
        manifest: BundleManifest,
        stage: WindowStage | None,
        metrics: GatewayMetrics,
        limits: EventLimits,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._token = BearerToken(token, f"POST {PATH}", "RAYSCORE_EVENTS_TOKEN")
        self._stage = stage
        self._metrics = metrics
        self._limits = limits
        self._clock = clock
        read = {window.source for window in manifest.windows}
        self._sources = {name: _Source(name, manifest) for name in manifest.events if name in read}
        self._unread = [name for name in manifest.events if name not in self._sources]

    def routes(self) -> dict[str, Route]:
        """Return the route by its path; none for a model without windows."""
        if self._stage is None or not self._sources:
            return {}
        return {PATH: Route(("POST",), self._answer, self._limits.body_bytes)}

    async def _answer(self, request: RouteRequest) -> RouteReply:
        self._token.require(request.headers.get(b"authorization", b""))
        request_options.require_json(request.headers.get(b"content-type", b""))
        source, items = self._asked(json_body.decode(request.body))
        request_id = read_request_id(request.headers)
        sent = source.parse(items, request_options.event_key(request.headers, request_id), self._clock())
        outcomes = await self._record(source.name, [event for _, event in sent.events])
        for (index, _), outcome in zip(sent.events, outcomes, strict=True):
            if outcome is EventOutcome.CONFLICT:
                sent.errors[index] = [InvalidRow(source.key, _OTHER_CONTENT)]
        self._metrics.events(outcomes, len(items) - len(outcomes))
        body = {**_counts(outcomes), "refused": _refused(sent.errors), "request_id": request_id}
        return RouteReply(200, responses.JSON, responses.dumps(body))

    async def _record(self, source: str, events: Sequence[Event]) -> list[EventOutcome]:
        if not events or self._stage is None:
            return []
        return await self._stage.record(source, events, self._limits.timeout_s)

    def _asked(self, decoded: Any) -> tuple[_Source, list[Any]]:
        """Return the source and the events of a decoded body.

        Raises:
            HttpProblem: 422, it is no such object, or names no source that takes events; 413, too many events.
        """
        if not isinstance(decoded, dict) or decoded.keys() - {"source", "events"} or "events" not in decoded:
            shown = "" if isinstance(decoded, dict) else f", not {json_type(decoded)}"
            raise HttpProblem(422, "Not events", f'send {{"source": NAME, "events": [...]}}, or one event{shown}')
        events = decoded["events"]
        items = events if isinstance(events, list) else [events]
        if not items:
            raise HttpProblem(422, "No events", "send at least one")
        if len(items) > self._limits.events:
            detail = f"{len(items):,} events in one request, at most {self._limits.events:,} are taken"
            raise HttpProblem(413, "Too many events", detail)
        return self._source(decoded.get("source")), items

    def _source(self, name: object) -> _Source:
        if name is None and len(self._sources) == 1:
            return next(iter(self._sources.values()))
        if isinstance(name, str) and name in self._sources:
            return self._sources[name]
        known = ", ".join(self._sources)
        unread = isinstance(name, str) and name in self._unread
        found = "no window reads events of this source" if unread else "no such source of events"
        reason = f"{found}; there are: {known}" if name is not None else f"is required; there are: {known}"
        fault = InvalidRow("source", reason)
        raise HttpProblem(422, "No such source", str(fault), errors=(fault,))


class _Source:
    """Reads events of one source."""

    def __init__(self, name: str, manifest: BundleManifest) -> None:
        source = manifest.events[name]
        self.name = name
        self.key = source.key or manifest.key or ""
        self._time = source.time or manifest.event_time or ""
        self._entities = _entity_names(source)
        reach_us = max(window.reach_us for window in manifest.windows if window.source == name)
        self._parser = EventParser(source, self.key, self._time, reach_us)

    def parse(self, items: Sequence[Any], fallback_key: str, now_us: int) -> _Sent:
        """Read events; one without a key of its own gets `fallback_key` with its place."""
        sent = _Sent([], {})
        for index, item in enumerate(items):
            errors: list[InvalidRow] = []
            event = self._event(item, f"{fallback_key}.{index}", now_us, errors)
            if errors or event is None:
                sent.errors[index] = errors
            else:
                sent.events.append((index, event))
        return sent

    def _event(self, item: Any, fallback_key: str, now_us: int, errors: list[InvalidRow]) -> Event | None:
        if not isinstance(item, dict):
            errors.append(InvalidRow(None, f"expected an object with the event, got {json_type(item)}"))
            return None
        errors += [self._unknown(name) for name in item if name not in self._parser.fields]
        parsed = self._parser.parse(item, now_us, errors)
        if not parsed.sent_time and not any(error.field == self._time for error in errors):
            errors.append(InvalidRow(self._time, "is required: when the event happened"))
        if not errors and not any(parsed.event.entities):
            errors.append(InvalidRow(None, f"names no entity, so it would be in no window: send {self._entities}"))
        return parsed.event if parsed.sent_key else parsed.event._replace(key=event_key(fallback_key))

    def _unknown(self, name: str) -> InvalidRow:
        shown = name if len(name) <= 80 else name[:77] + "..."
        known = sorted(self._parser.fields)
        near = difflib.get_close_matches(shown, known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known fields: {', '.join(known)}"
        return InvalidRow(shown, f"unknown field; {hint}")


def _entity_names(source: EventSource) -> str:
    return " or ".join(" and ".join(entity.columns) for entity in source.entities)


def _counts(outcomes: Sequence[EventOutcome]) -> dict[str, int]:
    return {outcome.name.lower(): outcomes.count(outcome) for outcome in EventOutcome}


def _refused(errors: Mapping[int, Sequence[InvalidRow]]) -> list[dict[str, Any]]:
    return [
        {"index": index, "errors": [{"field": each.field, "reason": each.reason} for each in errors[index]]}
        for index in sorted(errors)
    ]
