"""`rayscore late` from registry, log and event store to what it prints and writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from data.cli.terminal import run_cli
from data.settings import load_settings
from ray_app.cli.rayscore import LINE
from tests.support.serving.late_swipes import serve_swipes, vectors
from tests.support.serving.window_app import SWIPES, swipe, swipes_bundle, swipes_table
from tests.support.training.registry import new_registry
from tune.registry.registry import Registry
from tune.search.mlflow_runs import MlflowRuns

ROWS = [swipe(at, at, amount=10.0 + at, card="c2" if at == 5 else "c1") for at in range(7)]
SENT, LATE = [*ROWS[:2], *ROWS[3:]], [ROWS[2]]
"""Of these, 3, 4 and 6 are after the late one, of its card."""
ASKED = [row["swipe_id"] for row in SENT]

Late = Callable[..., int]


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Late:
    """The command over a registry with the model as version 1, and what a service logged and stored."""
    monkeypatch.setenv("RAYSCORE_VAR_DIR", str(tmp_path / "var"))
    use_case = tmp_path / "swipes.toml"
    use_case.write_text(SWIPES)
    settings = load_settings()
    new_registry(settings.var_dir)
    place = settings.tracking_uri, settings.artifact_dir
    Registry(*place).publish(swipes_bundle(), MlflowRuns(*place, "swipes").start("run", {}))
    serve_swipes(settings.events_path, settings.prediction_log_path, SENT, late=LATE)
    return lambda *argv: run_cli(LINE.main, ["late", *map(str, argv), "--use-case", str(use_case)])


def listed(late: Late, capsys: pytest.CaptureFixture[str], *options: Any) -> list[dict[str, Any]]:
    """What the command prints as JSON."""
    assert late("--json", *options) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_decisions_after_a_late_event_are_shown(late: Late, capsys: pytest.CaptureFixture[str]):
    """Counts first, then each row with its features as logged and now, and the event that was not there."""
    assert late() == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(
        "6 decisions looked at; with the events of now another window in 3, another vector in 3, another score in "
    )
    for key in (3, 4, 6):
        assert f"(swipe_id {key})" in shown.out
    assert "card_count_1d" in shown.out
    assert "not there then: event 2 of 'swipes' of card_id c1\n" in shown.out
    assert """not there then: event 2 of 'swipes' of card_id+terminal_id ["c1","t1"]\n""" in shown.out


def test_json_has_both_vectors(late: Late, capsys: pytest.CaptureFixture[str]):
    """Each object has the vector that was scored and that of the whole table, score and label of both."""
    rows = {row["key"]: row for row in listed(late, capsys)}
    names = swipes_bundle().manifest.schema_.names
    whole = dict(zip(range(7), vectors(swipes_table(ROWS)), strict=True))
    served = dict(zip(ASKED, vectors(swipes_table(SENT)), strict=True))
    assert set(rows) == {3, 4, 6}
    for key, row in rows.items():
        for side, expected in (("logged", served), ("now", whole)):
            assert vector_bytes([row[side]["vector"][name] for name in names]) == expected[key]
    assert rows[3]["changed"]["card_count_1d"] == {"logged": 2.0, "now": 3.0}
    assert rows[3]["missing"][0] == {
        "source": "swipes",
        "entity": "card_id",
        "entity_key": "c1",
        "keys": [2],
        "events": 1,
    }


def test_table_has_both_vectors(late: Late, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The Parquet file holds every such row, however few are shown."""
    assert late("--out", tmp_path / "late.parquet", "--rows", 1) == 0
    assert f"3 rows written to {tmp_path / 'late.parquet'}" in capsys.readouterr().err
    rows = pq.read_table(tmp_path / "late.parquet").to_pylist()
    whole = dict(zip(map(str, range(7)), vectors(swipes_table(ROWS)), strict=True))
    assert [row["key"] for row in rows] == ["3", "4", "6"]
    assert [vector_bytes(row["present_vector"]) for row in rows] == [whole[row["key"]] for row in rows]
    assert "card_count_1d" in rows[0]["changed"]


def test_rows_are_chosen(late: Late, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """By time of answer, entity and version; the number of those shown; without any, no table is written."""
    logged = [row["answered_at"] for row in listed(late, capsys)]
    assert [row["key"] for row in listed(late, capsys, "--since", logged[1])] == [4, 6]
    assert [row["key"] for row in listed(late, capsys, "--until", logged[1])] == [3]
    assert len(listed(late, capsys, "--rows", 2)) == 2
    assert listed(late, capsys, "--version", 2) == []
    assert late("--entity", "nobody", "--out", tmp_path / "none.parquet") == 0
    assert "no such row" in capsys.readouterr().err
    assert not (tmp_path / "none.parquet").exists()


def test_what_is_missing_is_told(late: Late, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """No log, no event store and a time that is none each end the command with what to do."""
    assert late(tmp_path / "nowhere") == 2
    assert "no folder of a prediction log" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        late("--since", "yesterday")
    assert "'yesterday' is not a time" in capsys.readouterr().err
    load_settings().events_path.unlink()
    assert late() == 2
    assert "events.db" in capsys.readouterr().err


def vector_bytes(values: list[float | None]) -> bytes:
    """A vector as float32 bytes, None as NaN."""
    return np.array([np.nan if value is None else value for value in values], np.float32).tobytes()
