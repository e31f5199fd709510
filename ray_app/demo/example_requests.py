"""Requests that the demo sends: rows of the table, and, where rows become events, two swipes of a new card."""

from __future__ import annotations

import json
import shlex
import time
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
from ray_app.demo.steps import DemoFailed

_SHOWN_WINDOWS = ("card_count_1h", "card_mean_amount_30d", "card_since_last")

_LATEST = 50
"""Frauds among which the example is looked for."""
_MOST_LABELS = 3
_EXPLAINED_S = 60.0
"""How long an explanation is waited for: its replica starts beside the service, which is ready without it."""


class ExampleRequest(NamedTuple):
    """One request body, what it shows, and whether its windows are to be printed."""

    title: str
    body: dict[str, Any] | list[dict[str, Any]]
    """A row, or the rows of a list that is asked about as a whole."""
    windows: bool = False


def send_examples(url: str, use_case: UseCase, table: Path) -> None:
    """Ask the service at `url`, and print what was asked, how to ask it again, and the answers.

    Raises:
        DemoFailed: the service refuses a row.
        httpx.HTTPError: the service does not answer.
    """
    for example in examples(use_case, table):
        err.print(f"      {example.title}", markup=False)
        text = json.dumps(example.body)
        curl = f"curl -s {url}/predict -H 'content-type: application/json' -d {shlex.quote(text)}"
        err.print(f"      $ {curl}", markup=False, style="dim")
        answer = _ask(url, example.body, explained=use_case.explanation is not None)
        err.print(f"      {_shown(answer, example.windows)}\n", markup=False)


def _ask(url: str, body: Any, explained: bool) -> Any:
    """Return the answer, or those of a list, with features, and with reasons where the use case has them."""
    params, deadline = {"detail": "1", **({"explain": "1"} if explained else {})}, time.monotonic() + _EXPLAINED_S
    while True:
        answer = httpx.post(f"{url}/predict", json=body, params=params, timeout=10)
        if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            raise DemoFailed(f"the service refuses the example: {answer.text}")
        answer.raise_for_status()
        found = answer.json()
        if "explanation_error" not in answer.text or time.monotonic() > deadline:
            return found
        time.sleep(1)


def examples(use_case: UseCase, table: Path) -> Iterator[ExampleRequest]:
    """Yield the requests, by what the use case has to show: events that count, or rows of different labels."""
    if use_case.task.list_column is not None:
        return _list(use_case, table, use_case.task.list_column)
    return _swipes(use_case, table) if use_case.windows else _rows_of_labels(use_case, table)


def _list(use_case: UseCase, table: Path, group: str) -> Iterator[ExampleRequest]:
    """Yield the latest list, whose rows are ranked among each other."""
    columns = request_columns(use_case)
    rows = read_table(table, list(dict.fromkeys([*columns, group])))
    latest = rows.filter(pc.field(group) == rows.column(group)[-1])
    yield ExampleRequest(
        f"the rows of one {group}, to be put in order", [_plain(row) for row in _rows(latest, columns)]
    )


def _rows_of_labels(use_case: UseCase, table: Path) -> Iterator[ExampleRequest]:
    """Yield the latest row of a few labels; of numbers those of the least and the largest."""
    columns = request_columns(use_case)
    rows = read_table(table, [*columns, use_case.label])
    column = rows.column(use_case.label)
    if use_case.task.labels is None:
        ends = pc.call_function("min_max", [column]).as_py()
        labels = [ends["min"], ends["max"]]
    else:
        labels = list(use_case.task.labels[:_MOST_LABELS])
    for label in labels:
        body = _body(rows.filter(pc.field(use_case.label) == label), columns)
        yield ExampleRequest(f"a row whose {use_case.label} was {label}", body)


def _swipes(use_case: UseCase, table: Path) -> Iterator[ExampleRequest]:
    """Yield a fraud of a misused card, the latest row that is none, and a new card that is used twice."""
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
    features = [feature for feature in use_case.features.values() if feature.source is Source.REQUEST]
    # What a feature is derived from is sent, not the feature.
    sent = [name for feature in features for name in feature.inputs]
    events = [source for source in use_case.events.values() if source.record]
    of_events = [name for source in events for name in (*source.entity_columns, *source.values)]
    entity = [use_case.entity.column] if use_case.entity else []
    # A time that nothing is computed of is no field of a request.
    named = [name for name in (use_case.key, use_case.event_time if use_case.events else None) if name]
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
    return _plain(_rows(rows.slice(rows.num_rows - 1, 1), columns)[0])


def _rows(rows: pa.Table, columns: list[str]) -> list[dict[str, Any]]:
    return rows.select(columns).to_pylist()


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _json_value(value) for name, value in row.items()}


def _json_value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _shown(answer: Any, windows: bool) -> str:
    if isinstance(answer, list):
        best_first = sorted(answer, key=lambda item: item.get("rank", 0))
        return "\n      ".join(_shown(item, windows) for item in best_first)
    features = answer.pop("features")
    if answer.get("explanation"):
        # Of the contributions the reasons are enough to read.
        answer["explanation"] = {"reasons": answer["explanation"]["reasons"]}
    if windows:
        answer["windows"] = {name: features[name]["value"] for name in _SHOWN_WINDOWS}
    return json.dumps(answer)
