"""`rayscore late` over a real Cassandra node: what it lists is what the whole table says."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from data.cli.terminal import run_cli
from data.event_store import open_events
from data.settings import load_settings
from ray_app.cli.rayscore import LINE
from tests.support.services.cassandra import Node
from tests.support.serving.late_swipes import serve_swipes, vectors
from tests.support.serving.window_app import SWIPES, report, swipe, swipes_bundle, swipes_table
from tests.support.training.registry import new_registry
from tune.registry.registry import Registry
from tune.search.mlflow_runs import MlflowRuns

ROWS = [swipe(at, 2 * at, amount=10.0 + at, card="c2" if at == 5 else "c1") for at in range(7)]
SENT, LATE = [*ROWS[:2], *ROWS[3:]], [ROWS[2]]
REPORTS = [report(1, -1441, True)]


@pytest.fixture
def node(cassandra_node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """The shared node, to which the settings lead, with a keyspace that is new; a champion in a registry."""
    keyspace = f"late_{abs(hash(tmp_path)):x}"
    variables = {
        "RAYSCORE_VAR_DIR": tmp_path / "var",
        "RAYSCORE_STORE": "cassandra",
        "RAYSCORE_CASSANDRA_HOSTS": cassandra_node.address,
        "RAYSCORE_CASSANDRA_KEYSPACE": keyspace,
        "RAYSCORE_CASSANDRA_READ_TIMEOUT_MS": 15_000,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    settings = load_settings()
    new_registry(settings.var_dir)
    place = settings.tracking_uri, settings.artifact_dir
    Registry(*place).publish(swipes_bundle(), MlflowRuns(*place, "swipes").start("run", {}))
    return cassandra_node


@pytest.mark.cassandra
@pytest.mark.usefixtures("node")
def test_decisions_after_late_events_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Each with the vector that was scored and that of the whole table, windows of 30 days too, and what missed."""
    use_case = tmp_path / "swipes.toml"
    use_case.write_text(SWIPES)
    settings, manifest = load_settings(), swipes_bundle().manifest
    keep_us = max(window.reach_us for window in manifest.windows)
    opened = partial(open_events, settings, manifest.name, manifest.events, keep_us=keep_us, create=True)
    serve_swipes(tmp_path, settings.prediction_log_path, SENT, LATE, REPORTS, open_store=opened)
    assert run_cli(LINE.main, ["late", "--json", "--use-case", str(use_case)]) == 0
    shown = capsys.readouterr()
    rows = {row["key"]: row for row in map(json.loads, shown.out.splitlines())}
    names = manifest.schema_.names
    whole = dict(zip(range(7), vectors(swipes_table(ROWS, REPORTS)), strict=True))
    served = dict(zip((row["swipe_id"] for row in SENT), vectors(swipes_table(SENT)), strict=True))
    assert set(rows) == {key for key in served if served[key] != whole[key]} == {0, 1, 3, 4, 5, 6}
    for key, row in rows.items():
        for side, expected in (("logged", served), ("now", whole)):
            values = [row[side]["vector"][name] for name in names]
            vector = np.array([np.nan if each is None else each for each in values], np.float32)
            assert vector.tobytes() == expected[key]
    assert rows[3]["changed"]["card_mean_30d"] == {"logged": 10.5, "now": 11.0}
    assert [each["keys"] for each in rows[3]["missing"] if each["entity"] == "card_id"] == [[2]]
    assert "windows not looked at" not in shown.err
