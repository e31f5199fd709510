"""Logged decisions of every kind of target, as they are read back, shown and written."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from data.event_store import RowQuery
from data.transform.encoding import Transform
from ray_app.cli import late as command
from ray_app.late_events.decision_table import write_decisions
from ray_app.late_events.logged_decision import LoggedDecision
from ray_app.late_events.version_replay import LateDecision
from ray_app.protocol.row_parser import RowParser
from tests.support.serving.made_models import OUTPUTS, ROWS, made_bundle

BEFORE = {"words": (0.125,), "classes": (0.5, 0.25, 0.25), "amount": (2.5,)}
AFTER = {"words": (0.75,), "classes": (0.25, 0.25, 0.5), "amount": (7.0,)}


def late_decision(kind: str) -> LateDecision:
    """A decision that late events would have changed, from one answer to another."""
    manifest, output = made_bundle(kind).manifest, OUTPUTS[kind]
    row = RowParser(manifest, Transform(manifest.schema_)).parse(ROWS[0])
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    before, after = BEFORE[kind], AFTER[kind]
    logged = LoggedDecision("r1", "1", moment, before, output.code(before), [1.0, 2.0], row, {}, ())
    query = RowQuery(key=b"k", time_us=0, own=(), entities=())
    vector = np.array([1.0, 3.0], np.float32)
    return LateDecision(logged, query, (), (), (), vector, after, output.code(after), True, manifest)


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("words", "score 0.125000, now 0.750000; label no, now yes\n"),
        ("classes", "score 0.750000, now 0.750000; label low, now high\n"),
        ("amount", "score 2.500000, now 7.000000\n"),
    ],
)
def test_both_answers_are_shown(kind: str, shown: str, capsys: pytest.CaptureFixture[str]):
    """The score by which versions are compared is shown as logged and now, and the label where there is one."""
    command._show(late_decision(kind))
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize("kind", BEFORE)
def test_both_answers_are_plain_json(kind: str):
    """Each side has the fields of a response beside its vector."""
    plain = json.loads(json.dumps(command._plain(late_decision(kind))))
    for side, scores in (("logged", BEFORE[kind]), ("now", AFTER[kind])):
        assert {name: value for name, value in plain[side].items() if name != "vector"} == OUTPUTS[kind].fields(scores)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("words", {"probability": 0.125, "present_probability": 0.75, "label": 0, "present_label": 1}),
        ("classes", {"probability": 0.5, "present_probability": 0.5, "label": 0, "present_label": 2}),
        ("amount", {"probability": None, "present_probability": None, "label": None, "present_label": None}),
    ],
)
def test_both_answers_are_in_the_table(kind: str, told: dict[str, Any], tmp_path: Path):
    """Probability and code of the label are as in the prediction log, and the scores are there for every kind."""
    late = late_decision(kind)
    assert late.other_label == (kind != "amount")
    assert write_decisions([late], tmp_path / "late.parquet") == 1
    (row,) = pq.read_table(tmp_path / "late.parquet").to_pylist()
    assert {name: row[name] for name in told} == told
    assert (row["scores"], row["present_scores"]) == (list(BEFORE[kind]), list(AFTER[kind]))
