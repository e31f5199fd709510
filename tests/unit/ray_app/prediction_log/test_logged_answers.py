"""What the log has of an answer for every kind of target, and logs that were written when there was one kind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from data.__main__ import main
from data.cli.commands import log as command
from data.prediction_log.file_summary import summaries
from data.prediction_log.files import COLUMNS, LABELS_KEY, LogFile, read_log
from data.prediction_log.wide_table import write_wide
from ray_app.prediction_log.log import LogOptions, PredictionLog, Sampling
from ray_app.prediction_log.stream_files import recover
from tests.support.serving.made_models import OUTPUTS, ROWS, made_bundle
from tests.support.serving.predict_app import build_app, run
from tests.support.serving.prediction_log import ALL

FORMER = pa.schema([field for field in COLUMNS if field.name != "scores"])


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch):
    """A terminal in which no column is cut."""
    monkeypatch.setattr(command, "out", Console(width=200, height=50))


def logged(kind: str, folder: Path) -> tuple[list[dict[str, Any]], LogFile]:
    """Ask a service with a log for `ROWS`; what it answered, and the file of its log."""
    bundle = made_bundle(kind)
    log = PredictionLog("g", bundle.manifest, LogOptions(folder, ALL, flush_s=0.05))
    answers = run(build_app(bundle=bundle, observers=[log]).post(ROWS)).json()
    log.close()
    (file,) = read_log(folder)
    return answers, file


@pytest.mark.parametrize("kind", OUTPUTS)
def test_probability_label_and_scores_are_those_of_the_answer(kind: str, tmp_path: Path):
    """The log has the first probability and the label's code, null of numbers, and all scores where those say less."""
    answers, file = logged(kind, tmp_path)
    output = OUTPUTS[kind]
    assert file.labels == output.labels
    for row, answer in zip(file.table.to_pylist(), answers, strict=True):
        assert row["probability"] == answer.get("probability")
        assert output.named(row["label"]) == answer.get("label")
        told = list(answer["probabilities"].values()) if "probabilities" in answer else output.read(answer)
        assert row["scores"] == (None if kind in ("digits", "words") else told)


@pytest.mark.parametrize(
    ("kind", "kept"),
    [("digits", [2, 3]), ("words", [1, 2, 3]), ("classes", [0, 1, 2, 3]), ("grades", [2, 3]), ("amount", [])],
)
def test_marked_answers_are_logged_by_their_own_share(kind: str, kept: list[int], tmp_path: Path):
    """The second share is of the positive label, or of every class but the most common one; of no number."""
    log = PredictionLog(
        "g", made_bundle(kind).manifest, LogOptions(tmp_path, Sampling(0.1, 1.0), flush_s=0.05), draw=lambda: 0.5
    )
    run(build_app(bundle=made_bundle(kind), observers=[log]).post(ROWS))
    log.close()
    found = [row["entity"] for file in read_log(tmp_path) for row in file.table.to_pylist()]
    assert found == [f"c{at}" for at in kept]


def former(folder: Path, name: str) -> Path:
    """A file as it was written before there was a column of scores: Parquet, or a stream that a crash left."""
    columns: dict[str, list[Any]] = {each: [None, None] for each in FORMER.names}
    columns |= {"replica": ["g0", "g0"], "sequence": [1, 2], "answered_at": [1, 2], "request_id": ["a", "b"]}
    columns |= {"version": ["3", "3"], "probability": [0.25, 0.75], "label": [0, 1], "vector": [[1.0], [2.0]]}
    columns |= {"sources": ["r", "r"], "latency_ms": [1.0, 1.0], "degraded": [False, False], "sent": ["{}", "{}"]}
    schema = FORMER.with_metadata({b"features": b'["amount"]'})
    table = pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema)
    path = folder / "date=2026-01-01" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("name", ["g0-1.parquet", "g0-1.arrows"])
def test_logs_of_before_are_read(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A file without the column of scores is read with null in it and labels 0 and 1, counted, shown and widened."""
    former(tmp_path, name)
    (file,) = read_log(tmp_path)
    assert file.table.schema.names == COLUMNS.names
    assert file.table.column("scores").null_count == 2
    assert (file.table.column("label").to_pylist(), file.labels, file.features) == ([0, 1], (0, 1), ("amount",))
    (summary,) = summaries(tmp_path)
    assert (summary.rows, summary.features) == (2, ("amount",))
    assert main(["log", str(tmp_path)]) == 0
    assert "0.75" in capsys.readouterr().out
    assert write_wide([file], file.features, tmp_path / "wide.parquet") == 2


def test_a_former_stream_becomes_parquet_of_now(tmp_path: Path):
    """A stream that a writer of before left is made Parquet, with all columns."""
    stream = former(tmp_path, "g0-1.arrows")
    stamp = stream.stat().st_mtime - 10_000

    os.utime(stream, (stamp, stamp))
    recover(tmp_path)
    assert not stream.exists()
    assert pq.read_schema(stream.with_suffix(".parquet")).names == COLUMNS.names


def test_logs_of_before_and_of_now_lie_side_by_side(tmp_path: Path):
    """Rows of both go into one wide table, scores null where they were not written."""
    _, now = logged("classes", tmp_path / "now")
    former(tmp_path / "old", "g0-1.parquet")
    (old,) = read_log(tmp_path / "old")
    assert write_wide([now, old], [*now.features, *old.features], tmp_path / "wide.parquet") == 6
    scores = pq.read_table(tmp_path / "wide.parquet").column("scores").to_pylist()
    assert [each is None for each in scores] == [False] * 4 + [True] * 2


@pytest.mark.parametrize(
    ("kind", "shown", "silent"),
    [
        ("digits", ["probability", "label", "0.0474"], ["scores"]),
        ("words", ["probability", "label", "yes"], ["scores"]),
        ("classes", ["probability", "label", "high"], ["scores"]),
        ("amount", ["scores", "-3"], ["probability", "label"]),
    ],
)
def test_the_command_shows_what_was_answered(
    kind: str, shown: list[str], silent: list[str], tmp_path: Path, wide: None, capsys: pytest.CaptureFixture[str]
):
    """`rayscore log` names the label and shows a number; columns in which nothing was answered are left out."""
    logged(kind, tmp_path)
    assert main(["log", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert all(word in table for word in shown)
    assert not any(word in table for word in silent)


def test_the_command_names_each_class_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As JSON a logged row has its label by name and the score of each class, or the bare number."""
    answers, _ = logged("grades", tmp_path / "grades")
    assert main(["log", str(tmp_path / "grades"), "--last", "1", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["label"], row["scores"]) == (2, answers[-1]["probabilities"])
    logged("amount", tmp_path / "amount")
    assert main(["log", str(tmp_path / "amount"), "--last", "1", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["probability"], row["label"], row["scores"]) == (None, None, [2.5])


def test_labels_are_in_the_metadata_of_a_finished_file(tmp_path: Path):
    """Any tool can tell a code's label from the file alone."""
    logged("classes", tmp_path)
    metadata = pq.read_schema(next(tmp_path.rglob("*.parquet"))).metadata
    assert json.loads(metadata[LABELS_KEY]) == ["low", "mid", "high"]
