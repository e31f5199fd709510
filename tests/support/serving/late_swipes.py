"""A service that logs its decisions on swipes, and gets some of their events afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from data.event_store import EventStore
from data.event_store.sqlite.store import SqliteEvents
from data.transform.encoding import Transform
from ray_app.late_events.log_review import LogReview
from ray_app.late_events.version_replay import LateDecision, VersionReplay
from ray_app.prediction_log.log import LogOptions, PredictionLog, Sampling
from tests.support.serving.predict_app import ServedApp, run
from tests.support.serving.window_app import EVENTS_TOKEN, swipes_app, swipes_bundle
from tune.registry.traffic_rules import TrafficRules

VERSION = "1"
RULES = TrafficRules(use_case="swipes", champion=VERSION, epoch=1)


def serve_swipes(
    file: Path,
    log: Path,
    sent: Sequence[Any],
    late: Sequence[dict[str, Any]] = (),
    reports: Sequence[dict[str, Any]] = (),
    entity_key: bytes | None = None,
    open_store: Callable[[], EventStore] | None = None,
) -> list[dict[str, Any]]:
    """Ask for each of `sent`, one after the other; then store what comes late. Returns the answers.

    Args:
        file: the event store.
        log: folder of the prediction log.
        sent: bodies of requests.
        late: swipes that nobody asked for, known to the store when all are answered.
        reports: reports that come as late.
        entity_key: key to hash entities in the log with.
        open_store: opens an event store in place of the file.
    """
    bundle = swipes_bundle()
    written = PredictionLog("gateway-1", bundle.manifest, LogOptions(log, Sampling(1.0, 0.0), entity_key))
    given = {"rules": RULES, "bundles": {VERSION: bundle}, "observers": [written], "events_token": EVENTS_TOKEN}
    with swipes_app(file, open_store, **given) as served:
        answers = run(_ask(served, sent))
        for source, events in (("swipes", late), ("reports", reports)):
            if events:
                run(_store(served, source, events))
    written.close()
    return answers


def review_swipes(file: Path, log_files: Any) -> tuple[LogReview, list[LateDecision]]:
    """Make the decisions of a log again, by the events in a file."""
    bundle = swipes_bundle()
    with closing(SqliteEvents(file, bundle.manifest.name, bundle.manifest.events)) as store:
        replay = VersionReplay(bundle, store)
        review = LogReview(lambda version: replay)
        return review, list(review.late(log_files, lambda rows: None))


def vectors(table: pa.Table) -> list[bytes]:
    """The vector of each row of a table with its features, as bytes: NaN equals itself."""
    return [row.tobytes() for row in Transform(swipes_bundle().manifest.schema_).matrix(table)]


async def _ask(served: ServedApp, sent: Sequence[Any]) -> list[Any]:
    async with served.client() as client:
        answers = [(await client.post("/predict", json=body)).json() for body in sent]
    assert not any("error" in answer or answer.get("degraded") for answer in answers if isinstance(answer, dict))
    return answers


async def _store(served: ServedApp, source: str, events: Sequence[dict[str, Any]]) -> None:
    right = {"authorization": f"Bearer {EVENTS_TOKEN}"}
    answer = (await served.post({"source": source, "events": list(events)}, "/events", **right)).json()
    assert answer["taken"] == len(events), answer
