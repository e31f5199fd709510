"""A served model with windows: each swipe sees those before it, whichever gateway answers, as the table has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.services import http_client
from tests.support.services.application import Workplace, serve_command
from tests.support.serving.window_app import (
    EVENTS_TOKEN,
    SWIPES,
    bits,
    report,
    swipe,
    swipes_bundle,
    swipes_table,
)

pytestmark = pytest.mark.ray

PATIENT = {"RAYSCORE_FEATURE_TIMEOUT_MS": "3000", "RAYSCORE_REQUEST_TIMEOUT_MS": "8000"}
"""Whole answers are asked for also where a replica starts beside them, which takes all of a small machine."""


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    """A folder with a champion that has windows, and its use case."""
    place = Workplace(tmp_path)
    use_case = place.folder / "swipes.toml"
    use_case.write_text(SWIPES)
    place.environment |= {"RAYSCORE_USE_CASE": str(use_case), "RAYSCORE_EVENTS_TOKEN": EVENTS_TOKEN, **PATIENT}
    place.publish_champion(swipes_bundle())
    return place


def test_ten_swipes_of_a_card_see_one_another(place: Workplace):
    """Over two gateways and links: 0 to 9 are seen, windows equal the table's bit for bit, reports count when known."""
    place.environment["RAYSCORE_GATEWAY_MIN_REPLICAS"] = "2"
    rows = [swipe(at, 2000 + at, amount=10.01 + at / 3) for at in range(10)]
    reports = [report(1, 0, True), report(2, 1, False), report(3, 2000, True)]
    token = {"authorization": f"Bearer {EVENTS_TOKEN}"}
    with place.running(*serve_command("graph")) as child:
        place.wait_ready(child)
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
