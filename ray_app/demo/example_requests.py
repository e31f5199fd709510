"""Requests that the demo sends: two rows of the table as of their times, and two swipes of a new card."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pyarrow as pa
import pyarrow.compute as pc

from data.cli.terminal import err
from data.schema.features.feature import Source
from data.schema.use_case import UseCase
from data.sources.parquet import read_table

_SHOWN_WINDOWS = ("card_count_1h", "card_mean_amount_30d", "card_since_last")

_LATEST = 50
"""Frauds among which the example is looked for."""


class ExampleRequest(NamedTuple):
    """One request body, what it shows, and whether its windows are to be printed."""

    title: str
    body: dict[str, Any]
    windows: bool = False


def send_examples(url: str, use_case: UseCase, table: Path) -> None:
    """Ask the service at `url`, and print what was asked, how to ask it again, and the answers.

    Raises:
        httpx.HTTPError: the service does not answer, or refuses a row.
    """
    for example in examples(use_case, table):
        err.print(f"      {example.title}", markup=False)
        text = json.dumps(example.body)
        curl = f"curl -s {url}/predict -H 'content-type: application/json' -d {shlex.quote(text)}"
        err.print(f"      $ {curl}", markup=False, style="dim")
        answer = httpx.post(f"{url}/predict", json=example.body, params={"detail": "1"}, timeout=10)
        answer.raise_for_status()
        err.print(f"      {_shown(answer.json(), example.windows)}\n", markup=False)


def examples(use_case: UseCase, table: Path) -> Iterator[ExampleRequest]:
    """Yield the requests: a fraud of a misused card, the latest row that is none, and a new card that is used twice."""
    columns = request_columns(use_case)
    rows = read_table(table, [*columns, use_case.label])
    frauds, others = (rows.filter(pc.field(use_case.label) == label) for label in (1, 0))
    misused = _misused(frauds.slice(max(frauds.num_rows - _LATEST, 0)), use_case)
    body = _body(others, columns)
    yield ExampleRequest("a card that is being misused, as of that time", _body(misused, columns))
    yield ExampleRequest("a row that was no fraud, as of its time", body)
    # Without key and time it is an event of its own, of this moment, each time that it is sent.
    entity = {use_case.entity.column: "a_new_card"} if use_case.entity else {}
    left_out = (use_case.key, use_case.event_time)
    swipe = {name: value for name, value in body.items() if name not in left_out} | entity
    yield ExampleRequest("a card that no store knows", swipe, windows=True)
    yield ExampleRequest("the same card again: what it did is counted", swipe, windows=True)


def request_columns(use_case: UseCase) -> list[str]:
    """Return what a request about a row has: its key, time, entities, features, and values of the event it is."""
    sent = [feature.name for feature in use_case.features.values() if feature.source is Source.REQUEST]
    events = [source for source in use_case.events.values() if source.record]
    of_events = [name for source in events for name in (*source.entity_columns, *source.values)]
    entity = [use_case.entity.column] if use_case.entity else []
    named = [name for name in (use_case.key, use_case.event_time) if name]
    return list(dict.fromkeys([*named, *entity, *of_events, *sent]))


def _misused(frauds: pa.Table, use_case: UseCase) -> pa.Table:
    """Return the rows of the entity that has the most: of a single fraud, its history tells nothing."""
    if use_case.entity is None:
        return frauds
    entities = frauds.column(use_case.entity.column)
    counts = Counter(entities.to_pylist())
    return frauds.filter(pc.field(use_case.entity.column) == max(counts, key=counts.__getitem__))


def _body(rows: pa.Table, columns: list[str]) -> dict[str, Any]:
    """Return the last row as a request."""
    row = rows.select(columns).slice(rows.num_rows - 1, 1).to_pylist()[0]
    return {name: _json_value(value) for name, value in row.items()}


def _json_value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _shown(answer: dict[str, Any], windows: bool) -> str:
    features = answer.pop("features")
    if windows:
        answer["windows"] = {name: features[name]["value"] for name in _SHOWN_WINDOWS}
    return json.dumps(answer)
