"""The proof in time over HTTP: nothing differs on a sound service, and an event that is missing is named."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data.errors import ConfigError, DataError
from data.feature_views.events.event_tables import EventTables
from data.schema.use_case import UseCase, parse_use_case
from data.settings import Settings
from tests.support.serving.predict_app import VERSION
from tests.support.serving.window_app import EVENTS_TOKEN, START, swipes_bundle, swipes_use_case
from tests.support.training.in_time import remove_newest, scratch_events, service_in_time, timed_reports, timed_swipes
from tests.support.training.models import train_bundle
from tune.registry.bundle import Bundle
from tune.skew.in_time_comparison import InTimeProof
from tune.skew.in_time_replay import prove_in_time
from tune.skew.in_time_table import InTimeTable
from tune.skew.missing_events import MissingEvents
from tune.skew.scratch_stores import ScratchStores
from tune.skew.service_client import ServiceClient

SINCE_US = int((START + timedelta(days=1)).timestamp() * 1e6)
STORED = """
name = "visits"
label = "is_fraud"
key = "swipe_id"
event_time = "swiped_at"
materialized = { every = "12h", takes = "1h" }

[entity]
column = "card_id"
ttl = "2d"

[features]
amount = { type = "number" }
last_amount = { type = "number", source = "online", default = 1 }
ratio = { expression = "amount / last_amount" }
"""
"""A use case with a batch view, and neither windows nor events."""


def in_time(table: pa.Table, last: int | None = None) -> InTimeTable:
    """The rows of the last days, with what was before."""
    events = EventTables(None, {"reports": timed_reports(table)})
    return InTimeTable(table, swipes_use_case(), swipes_bundle().manifest, events, SINCE_US, last)


def proof_of(
    folder: Path,
    found: InTimeTable,
    advance: Callable[[int], None] = lambda _: None,
    bundle: Bundle | None = None,
) -> InTimeProof:
    """Serve the model and prove it."""
    bundle, settings = bundle or swipes_bundle(), Settings(var_dir=folder)
    labels = found.rows.column("is_fraud").to_numpy().astype(np.uint8)
    with (
        closing(ScratchStores(settings, found.use_case, bundle.manifest)) as stores,
        service_in_time(settings, bundle) as url,
        closing(ServiceClient(url, VERSION, EVENTS_TOKEN)) as service,
    ):
        return prove_in_time(bundle, found, labels, service, stores, advance=advance)


def test_sound_service_is_proven(tmp_path: Path):
    """Each vector is the table's, with rows and events repeated, late and out of order among them."""
    found, done = in_time(timed_swipes()), list[int]()
    proof = proof_of(tmp_path, found, done.append)
    assert (proof.compared, proof.differing, proof.degraded, proof.refused) == (found.count, 0, 0, 0)
    assert proof.passed and sum(done) == found.count > 100
    assert min(proof.repeated, proof.disordered, proof.repeated_events, proof.late_events) > 0
    assert proof.figures is not None and proof.figures.by_table == proof.figures.live
    assert proof.fields["events"] > 0 and proof.fields["computed"] > 0


def test_last_rows_are_enough(tmp_path: Path):
    """Of the last rows alone, the ones before are history."""
    proof = proof_of(tmp_path, in_time(timed_swipes(), 30))
    assert (proof.compared, proof.differing, proof.passed) == (30, 0, True)


def test_nothing_stays_in_the_scratch_stores(tmp_path: Path):
    """After a proof the scratch store holds no events, and the live one was never made but by the service, empty."""
    proof_of(tmp_path, in_time(timed_swipes(), 20))
    for file in (scratch_events(tmp_path), tmp_path / "events.db"):
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("SELECT count(*) FROM entity_events").fetchone() == (0,)


def test_removed_event_is_named(tmp_path: Path):
    """An event that the store has lost refuses the proof, which says which it was."""
    found, removed = in_time(timed_swipes()), list[int]()

    def remove(rows: int) -> None:
        if not removed:
            removed.append(remove_newest(scratch_events(tmp_path)))

    proof = proof_of(tmp_path, found, remove)
    assert proof.differing > 0 and not proof.passed
    explained = MissingEvents(found)
    pairs = zip(proof.places, proof.mismatches, strict=True)
    said = [line for at, mismatch in pairs for line in explained.explain(at, mismatch)]
    assert any("missing of events swipes" in line and f" {removed[0]} of " in line for line in said), said


def test_batch_view_is_that_of_the_time(tmp_path: Path):
    """Stored values are those of the schedule at each row's time, within their ttl at that time, though long ago."""
    use_case = parse_use_case(STORED, "visits.toml")
    table = timed_swipes(400)
    table = table.append_column("last_amount", table.column("amount"))
    years_ago = [moment - timedelta(days=900) for moment in table.column("swiped_at").to_pylist()]
    table = table.set_column(1, "swiped_at", pa.array(years_ago, pa.timestamp("us", "UTC")))
    bundle = train_bundle(table, use_case, rounds=3)
    since_us = SINCE_US - 905 * 86_400_000_000
    proof = proof_of(tmp_path, _with_batch_view(table, use_case, bundle, since_us), bundle=bundle)
    assert (proof.differing, proof.passed, proof.degraded) == (0, True, 0)
    assert proof.fields["online"] > 50 and proof.fields["default"] > 5


def _with_batch_view(table: pa.Table, use_case: UseCase, bundle: Bundle, since_us: int) -> InTimeTable:
    return InTimeTable(table, use_case, bundle.manifest, EventTables(None, {}), since_us)


def test_what_cannot_be_replayed_is_said():
    """Keys that repeat with other content, a holdout after the table, and other declarations are refused by name."""
    table = timed_swipes(50)
    keys = table.column("swipe_id").to_pylist()
    twice = table.set_column(0, "swipe_id", pa.array([keys[1], *keys[1:]]))
    with pytest.raises(DataError, match=r"events\.swipes: 1 rows known earlier than another of the same key: remove"):
        in_time(twice)
    events = EventTables(None, {"reports": timed_reports(table)})
    manifest = swipes_bundle().manifest
    with pytest.raises(DataError, match="no row from 2100-01-01"):
        InTimeTable(table, swipes_use_case(), manifest, events, 4_102_444_800_000_000)
    other = parse_use_case(STORED, "visits.toml")
    with pytest.raises(ConfigError, match="declares other windows or events than the version"):
        InTimeTable(table, other, manifest, events, SINCE_US)
