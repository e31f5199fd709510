"""The thread that makes tiles."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from data.errors import StoreError
from data.event_store.tile_folder import TileFolder
from data.event_store.tile_making import TileJob
from data.event_store.tile_spans import Span
from data.feature_views.online.tiles import TilePlan
from data.schema.events.event_source import EventSource
from data.schema.features.window_feature import Aggregate, WindowFeature
from tests.support.environment.waiting import wait_for

SOURCE = EventSource.model_validate({"entities": ["shop"], "values": ["amount"]})
PLAN = TilePlan([WindowFeature("n", Aggregate.COUNT, 9, 0, "swipes", "shop", None, None, False)], SOURCE)


@pytest.mark.parametrize(("error", "logged"), [(ValueError("what is this"), True), (StoreError("busy"), False)])
def test_a_job_that_fails_takes_no_other_with_it(caplog: pytest.LogCaptureFixture, error: Exception, logged: bool):
    """Its entity rests, the next one gets its tiles; what is no error of the store is logged."""
    done: list[str] = []

    def make(job: TileJob[str], pause: Callable[[float], object]) -> int:
        done.append(job.place)
        if job.place == "bad":
            raise error
        return 1

    folder = TileFolder[str](make, ())
    with caplog.at_level(logging.ERROR):
        for place in ("bad", "bad", "good", "bad"):
            folder.offer(TileJob(place, PLAN, Span(0, 1)))
        wait_for(lambda: "good" in done, "the second job to be done")
        folder.offer(TileJob("bad", PLAN, Span(0, 1)))
        folder.stop()
    assert done == ["bad", "good"]
    assert bool(caplog.records) == logged
