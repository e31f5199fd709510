"""A served model with windows: each swipe sees those before it, whichever gateway answers, as the table has it."""

from __future__ import annotations

import os
import signal
from contextlib import closing

import numpy as np
import pytest

from data.feature_views.events.event_tables import EventTables
from data.schema.scratch_name import scratch_file, scratch_name
from tests.support.services import http_client
from tests.support.services.application import Workplace
from tests.support.serving.window_app import (
    EVENTS_TOKEN,
    bits,
    report,
    swipe,
    swipes_bundle,
    swipes_table,
    swipes_use_case,
)
from tests.support.training.in_time import remove_newest, timed_reports, timed_swipes
from tune.skew.in_time_comparison import InTimeProof
from tune.skew.in_time_replay import prove_in_time
from tune.skew.in_time_table import InTimeTable
from tune.skew.missing_events import MissingEvents
from tune.skew.scratch_stores import ScratchStores
from tune.skew.service_client import ServiceClient

pytestmark = pytest.mark.ray


def test_ten_swipes_of_a_card_see_one_another(place: Workplace):
    """Over two gateways and links: 0 to 9 are seen, windows equal the table's bit for bit, reports count when known."""
    rows = [swipe(at, 2000 + at, amount=10.01 + at / 3) for at in range(10)]
    reports = [report(1, 0, True), report(2, 1, False), report(3, 2000, True)]
    token = {"authorization": f"Bearer {EVENTS_TOKEN}"}
    sent = http_client.post(f"{place.url}/events", json={"source": "reports", "events": reports}, headers=token)
    assert sent.json()["taken"] == 3, sent.text
    answers = [http_client.post(f"{place.url}/predict?detail=1", json=row).json() for row in rows]
    again = http_client.post(f"{place.url}/predict?detail=1", json=rows[3]).json()
    assert [answer["features"]["card_count_1d"]["value"] for answer in answers] == list(range(10))
    assert all(answer["recorded"] and not answer["degraded"] for answer in answers)
    assert again["features"] == answers[3]["features"]
    names = swipes_bundle().manifest.schema_.names
    offline = swipes_table(rows, reports).to_pylist()
    assert [{name: bits(answer["features"][name]["value"]) for name in names} for answer in answers] == [
        {name: bits(row[name]) for name in names} for row in offline
    ]


def test_proof_in_time_outlives_a_kill_of_each_part(place: Workplace):
    """Of 2,000 rows none differs though a replica of each part is killed meanwhile; an event that is lost is named."""
    swipes = timed_swipes(3000)
    reports = EventTables(None, {"reports": timed_reports(swipes)})
    declared = swipes_use_case(), swipes_bundle().manifest, reports, -(2**62)
    table, shorter = InTimeTable(swipes, *declared, 2000), InTimeTable(swipes, *declared, 500)
    answered, killed, removed = [0], list[str](), list[int]()

    def kill(rows: int) -> None:
        answered[0] += rows
        for at, stage in enumerate(("FeatureFetch", "Model", "Gateway")):
            if answered[0] > 400 * (at + 1) and stage not in killed:
                killed.append(stage)
                os.kill(place.processes(f"ServeReplica:default:{stage}")[0], signal.SIGKILL)

    def lose(rows: int) -> None:
        if not removed:
            removed.append(remove_newest(scratch_file(place.settings.events_path, scratch_name("swipes"))))

    sound = proof_of(place, table, kill)
    faulty = proof_of(place, shorter, lose)
    assert (sound.compared, sound.differing, sound.degraded, sound.refused) == (2000, 0, 0, 0)
    assert killed == ["FeatureFetch", "Model", "Gateway"]
    assert sound.passed and sound.figures is not None and sound.figures.by_table == sound.figures.live
    assert not faulty.passed
    pairs = zip(faulty.places, faulty.mismatches, strict=True)
    said = [line for at, mismatch in pairs for line in MissingEvents(shorter).explain(at, mismatch)]
    assert any(f" {removed[0]} of " in line for line in said), said


def proof_of(place: Workplace, table: InTimeTable, advance) -> InTimeProof:
    """Prove the place's champion, which is version 1."""
    labels = table.rows.column("is_fraud").to_numpy().astype(np.uint8)
    with (
        closing(ScratchStores(place.settings, table.use_case, table.manifest)) as stores,
        closing(ServiceClient(place.url, "1", EVENTS_TOKEN)) as service,
    ):
        return prove_in_time(swipes_bundle(), table, labels, service, stores, advance=advance)
