"""The stores that every case of this folder is run over."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from data.event_store import EventStore, open_events
from data.schema.events.event_source import EventSource
from data.settings import Settings
from tests.support.services.event_stores import CARDS, HOUR, Open


@pytest.fixture(params=["sqlite", pytest.param("cassandra", marks=pytest.mark.cassandra)])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of each driver in turn."""
    if request.param == "sqlite":
        return Settings(store="sqlite", var_dir=tmp_path)
    return request.getfixturevalue("cassandra_node").settings()


@pytest.fixture
def open_(store_settings: Settings) -> Iterator[Open]:
    """Opens stores, by default for writing and of one use case that is new in every test; closes them in the end."""
    opened: list[EventStore] = []
    fresh = f"cards_{uuid.uuid4().hex[:8]}"

    def open_one(use_case: str = fresh, *, sources: Mapping[str, EventSource] = CARDS, create: bool = True):
        opened.append(open_events(store_settings, use_case, sources, keep_us=24 * HOUR, create=create))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def looks(store_settings: Settings) -> bool:
    """Whether the store looks at what is there before it writes, and so can say what became of an event."""
    return store_settings.store == "sqlite"
