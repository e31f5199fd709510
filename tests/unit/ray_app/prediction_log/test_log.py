"""The prediction log: what was answered is on disk, whatever happens to the process or the disk."""

from __future__ import annotations

import json
import math
import os
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.__main__ import main
from data.errors import DataError
from data.prediction_log.file_summary import lost_rows, summaries
from data.prediction_log.files import PARQUET, STREAM, LogFile, read_file, read_log, sources
from data.prediction_log.wide_table import write_wide
from ray_app.prediction_log.log import LogOptions, PredictionLog, Sampling
from ray_app.prediction_log.stream_files import to_parquet
from tests.support.environment.waiting import wait_for
from tests.support.serving.predict_app import ROW, build_app, manifest, run
from tests.support.serving.prediction_log import ALL, answered
from tests.support.serving.prediction_log import counted as counted
from tests.support.serving.window_app import swipe, swipes_bundle, swipes_stage
from tests.support.training.models import card_table


def names() -> tuple[str, ...]:
    """The features of the model under test."""
    return manifest().schema_.names


@pytest.fixture
def written(tmp_path: Path, counted: Counter[str]) -> Iterator[PredictionLog]:
    """A log that was given 200 rows and closed."""
    log = PredictionLog(
        "gateway-1", manifest(), LogOptions(tmp_path, ALL, flush_s=0.05), lambda o, n: counted.update({o: n})
    )
    log.answered([answered(f"r{i}", i / 200) for i in range(200)])
    log.close()
    yield log


def test_every_answer_is_there_with_all_that_is_known_of_it(tmp_path: Path, written, counted: Counter[str]):
    """A row has the request's id, the entity, the version and epoch, the score, the vector and where it came from."""
    (file,) = read_log(tmp_path)
    rows = file.table.to_pylist()

    assert counted == {"written": 200}
    assert [row["request_id"] for row in rows] == [f"r{i}" for i in range(200)]
    assert {(row["entity"], row["version"], row["epoch"], row["replica"]) for row in rows} == {
        ("u1", "3", 7, "gateway-1")
    }
    assert rows[100]["probability"] == np.float32(0.5)
    assert file.features == names()
    used = dict(zip(file.features, sources(rows[0]["sources"]), strict=True))
    assert used["amount"] == "request"
    assert used["cardholder_age"] == "default"
    assert json.loads(rows[0]["sent"])["amount"] == ROW["amount"]
    assert rows[0]["online"] is None
    assert lost_rows(summaries(tmp_path)) == 0


def test_a_full_stream_becomes_parquet(tmp_path: Path, written):
    """What is finished is Parquet, which any tool reads; no stream is left."""
    assert {file.suffix for file in tmp_path.rglob("*.*")} == {PARQUET}
    assert pq.ParquetFile(next(tmp_path.rglob(f"*{PARQUET}"))).metadata.num_rows == 200


def test_entities_can_be_hashed(tmp_path: Path):
    """With a key no entity is in the file, neither as a column nor in what was sent; equal ones stay equal."""
    log = PredictionLog("g", manifest(), LogOptions(tmp_path, ALL, entity_key=b"0123456789abcdef"))
    log.answered([answered("a", entity="card-77"), answered("b", entity="card-77"), answered("c", entity="card-78")])
    log.close()

    (file,) = read_log(tmp_path)
    first, again, other = file.table.column("entity").to_pylist()
    assert first == again != other
    assert "card-7" not in json.dumps(file.table.to_pylist(), default=str)


def test_a_stream_of_another_release_is_left_as_it_is(tmp_path: Path, counted: Counter[str]):
    """A stream with other columns, which a crash left behind, stays as it is, and the log is written beside it."""
    other = pa.record_batch({"replica": ["gateway-0"]})
    stream = tmp_path / f"old{STREAM}"
    with pa.ipc.new_stream(stream, other.schema) as writer:
        writer.write_batch(other)
    os.utime(stream, (1, 1))
    content = stream.read_bytes()

    log = PredictionLog(
        "gateway-1", manifest(), LogOptions(tmp_path, ALL, flush_s=0.05), lambda o, n: counted.update({o: n})
    )
    log.answered([answered()])
    log.close()

    assert counted == {"written": 1}
    assert stream.read_bytes() == content
    (finished,) = tmp_path.rglob(f"*{PARQUET}")
    assert read_file(finished).table.num_rows == 1


def test_sampling_follows_the_rule():
    """Shares hold for all answers, and the larger one for those that are marked."""
    rule = Sampling(0.1, 0.5)
    drawn = ((False, 0.05), (False, 0.3), (True, 0.3), (True, 0.6))
    assert [rule.takes(marked, draw) for marked, draw in drawn] == [True, False, True, False]


def test_a_full_queue_drops_and_counts(tmp_path: Path, counted: Counter[str]):
    """Rows beyond the queue's limit are counted as dropped, and show as a gap in the sequence."""
    options = LogOptions(tmp_path, ALL, flush_s=30, limit=5)
    log = PredictionLog("g", manifest(), options, lambda o, n: counted.update({o: n}))
    log.answered([answered(f"r{i}") for i in range(8)])
    assert counted == {"dropped": 3}
    log.close()
    assert counted == {"dropped": 3, "written": 5}


def test_a_stream_that_cannot_be_opened_is_not_taken_for_an_empty_one(tmp_path: Path):
    """It is told, and stays: its rows may be readable later, or another replica has just made Parquet of them."""
    link = tmp_path / f"gateway-1-1{STREAM}"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="not readable"):
        to_parquet(link)
    assert link.is_symlink()
    assert list(tmp_path.iterdir()) == [link]


def test_the_free_share_of_the_disk_is_known(tmp_path: Path):
    """The share of the disk that is free is looked up by the writer, also before the folder is there."""
    log = PredictionLog("r", manifest(), LogOptions(tmp_path / "not" / "yet", Sampling(1, 1), flush_s=0.01))
    try:
        wait_for(lambda: not math.isnan(log.disk_free), "a look at the disk")
    finally:
        log.close()
    assert 0 < log.disk_free < 1


def test_two_logs_share_a_folder(tmp_path: Path):
    """Replicas write beside each other, each into files of its own."""
    logs = [PredictionLog(f"g{i}", manifest(), LogOptions(tmp_path, ALL, flush_s=0.05)) for i in range(2)]
    threads = [
        threading.Thread(target=lambda log=log: [log.answered([answered(str(n))]) for n in range(50)]) for log in logs
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for log in logs:
        log.close()

    assert sorted(file.table.column("replica")[0].as_py() for file in read_log(tmp_path)) == ["g0", "g1"]


def test_command_shows_and_writes_the_log(tmp_path: Path, written, capsys: pytest.CaptureFixture[str]):
    """`rayscore log` shows the last rows, or JSON with the features by name, or writes one wide table."""
    assert main(["log", str(tmp_path), "--last", "2"]) == 0
    assert "r199" in capsys.readouterr().out
    assert main(["log", str(tmp_path), "--last", "1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["features"]["amount"] == {"scored": ROW["amount"], "source": "request"}
    assert main(["log", str(tmp_path), "--version", "9"]) == 1
    table = tmp_path / "wide.parquet"
    assert main(["log", str(tmp_path), "--out", str(table)]) == 0
    whole = pq.read_table(table)
    assert whole.num_rows == 200
    assert {"feature_amount", "source_amount", "probability"} <= set(whole.column_names)


def test_files_of_something_else_are_refused(tmp_path: Path):
    """A folder that is not there, and Parquet with other columns, are named."""
    with pytest.raises(DataError, match="switches the log on"):
        list(read_log(tmp_path / "none"))
    pq.write_table(pq.ParquetFile(_other(tmp_path)).read(), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="no file of a prediction log"):
        list(read_log(tmp_path))


def _other(folder: Path) -> Path:
    file = folder / "other.parquet"
    pq.write_table(card_table(10), file)
    return file


def test_tables_of_different_models_are_put_side_by_side(written, tmp_path: Path):
    """A feature that another model does not have is null in its rows."""
    (file,) = read_log(tmp_path)
    fewer = LogFile(file.table, ("only", *file.features[1:]), True)
    target = tmp_path / "wide.parquet"

    assert write_wide([file, fewer], [*file.features, *fewer.features], target) == 400
    assert pq.ParquetFile(target).read(["feature_only"]).column(0).null_count == 200


def test_windows_and_expressions_are_in_the_log_with_their_time(tmp_path: Path):
    """Each computed value is there raw, with its source and the time it is of; with a key no entity is."""
    bundle = swipes_bundle()
    log = PredictionLog("gateway-1", bundle.manifest, LogOptions(tmp_path / "log", ALL, entity_key=b"secret"))
    with swipes_stage(tmp_path / "events.db") as stage:
        served = build_app(stage, bundle=bundle, observers=[log])
        rows = [{**swipe(at, 0, amount=0.1 + at), "swiped_at": None} for at in range(2)]
        shown = [run(served.post(row, "/predict?detail=1")).json() for row in rows]
    log.close()
    (file,) = read_log(tmp_path / "log")
    for row, answer in zip(file.table.to_pylist(), shown, strict=True):
        used = dict(zip(file.features, sources(row["sources"]), strict=True))
        assert used == {name: feature["source"] for name, feature in answer["features"].items()}
        logged = json.loads(row["online"])
        moment = datetime.fromisoformat(answer["event_time"].replace("Z", "+00:00"))
        assert datetime.fromtimestamp(logged["swiped_at"] / 1e6, timezone.utc) == moment
        computed = {name for name, source in used.items() if source in ("events", "computed")}
        assert {name: logged[name] for name in computed} == {
            name: answer["features"][name]["value"] for name in computed
        }
        assert not {"card_id", "terminal_id"} & json.loads(row["sent"]).keys()
