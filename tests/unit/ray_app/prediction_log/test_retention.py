"""What is kept of a prediction log, and that nothing else in its folder is touched."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.prediction_log.files import PARQUET, STREAM, log_files, log_schema, read_log
from ray_app.prediction_log.log import LogOptions, PredictionLog
from ray_app.prediction_log.retention import AGE, SIZE, Retention, finished_files, prune
from tests.support.environment.waiting import wait_for
from tests.support.serving.predict_app import manifest
from tests.support.serving.prediction_log import ALL, answered
from tests.support.serving.prediction_log import counted as counted

NOW = 1_700_000_000.0
DAY_S = 86_400


def finished(folder: Path, age_s: float, replica: str = "g1", schema: pa.Schema | None = None) -> Path:
    """A finished file of a log, begun so long before NOW."""
    begun = NOW - age_s
    day = folder / time.strftime("date=%Y-%m-%d", time.gmtime(begun))
    day.mkdir(parents=True, exist_ok=True)
    path = day / f"{replica}-{int(begun * 1e6)}{PARQUET}"
    pq.write_table((schema or log_schema(("a",))).empty_table(), path)
    return path


def test_files_too_old_are_removed_with_their_days(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Files begun before the age limit go, counted and logged, and so does a day that is empty; younger ones stay."""
    old = [finished(tmp_path, 40 * DAY_S), finished(tmp_path, 31 * DAY_S, "g2")]
    young = [finished(tmp_path, 29 * DAY_S), finished(tmp_path, 0)]
    assert prune(tmp_path, Retention(max_age_s=30 * DAY_S), NOW) == {AGE: 2}
    assert sorted(log_files(tmp_path)) == sorted(young)
    assert not any(path.parent.exists() for path in old)
    assert "2 files" in caplog.text
    assert prune(tmp_path, Retention(max_age_s=30 * DAY_S), NOW) == {}


def test_beyond_the_size_the_oldest_go_first(tmp_path: Path):
    """Files are removed oldest first, whichever replica wrote them, until the rest fits, and not one more."""
    files = [finished(tmp_path, (5 - n) * DAY_S, f"g{n % 2}") for n in range(5)]
    size = files[0].stat().st_size
    assert prune(tmp_path, Retention(max_bytes=3 * size), NOW) == {SIZE: 2}
    assert [file.path for file in finished_files(tmp_path)] == files[2:]


def test_without_limits_all_is_kept(tmp_path: Path):
    """Limits of 0 remove nothing, however old."""
    finished(tmp_path, 4000 * DAY_S)
    assert prune(tmp_path, Retention(), NOW) == {}
    assert len(finished_files(tmp_path)) == 1


def test_what_is_no_finished_file_of_a_log_stays(tmp_path: Path):
    """Streams, files with other names, places or columns, broken files and links stay, and cost ours no place."""
    day = finished(tmp_path, 50 * DAY_S).parent
    stamp = int((NOW - 50 * DAY_S) * 1e6)
    other = finished(tmp_path, 60 * DAY_S, "other", pa.schema([("salary", pa.int64())]))
    broken = day / f"cut-{stamp}{PARQUET}"
    broken.write_bytes(b"PAR1 and no more")
    outside = tmp_path / f"g1-{stamp}{PARQUET}"
    pq.write_table(log_schema(("a",)).empty_table(), outside)
    link = day / f"link-{stamp}{PARQUET}"
    link.symlink_to(outside)
    named = day / "training.parquet"
    named.write_bytes(outside.read_bytes())
    stream = day / f"g1-{stamp}{STREAM}"
    stream.write_bytes(b"")
    newest = finished(tmp_path, DAY_S)

    keep = Retention(max_age_s=55 * DAY_S, max_bytes=newest.stat().st_size)
    assert prune(tmp_path, keep, NOW) == {SIZE: 1}
    for path in (other, broken, outside, link, named, stream, newest):
        assert path.is_symlink() or path.exists(), path


def test_half_made_files_of_dead_writers_go(tmp_path: Path):
    """Parquet that a writer was killed in the midst of goes after a day, one that may be at work stays."""
    day = finished(tmp_path, 0).parent
    dead, alive = (day / f".g{n}-{int(NOW * 1e6)}{PARQUET}.77" for n in range(2))
    for path, age_s in ((dead, 2 * DAY_S), (alive, 60)):
        path.write_bytes(b"PAR1")
        os.utime(path, (NOW - age_s, NOW - age_s))
    prune(tmp_path, Retention(max_age_s=30 * DAY_S), NOW)
    assert (dead.exists(), alive.exists()) == (False, True)


def test_replicas_that_prune_at_once_count_each_file_once(tmp_path: Path):
    """Several replicas over one folder: files vanish under each other's hands, and none fails or counts one twice."""
    for n in range(200):
        finished(tmp_path, 40 * DAY_S + n, f"g{n}")
    counts: list[Counter[str]] = []
    together = threading.Barrier(4)

    def replica() -> None:
        together.wait()
        counts.append(prune(tmp_path, Retention(max_age_s=DAY_S), NOW))

    threads = [threading.Thread(target=replica) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(count[AGE] for count in counts) == 200
    assert len(counts) == 4
    assert finished_files(tmp_path) == []


def test_a_folder_that_is_not_there_yet(tmp_path: Path):
    """Before the first row there is nothing to remove, and no error."""
    assert prune(tmp_path / "none", Retention(1.0, 1), NOW) == {}


def test_the_writer_removes_and_tells(tmp_path: Path, counted: Counter[str]):
    """The process that writes prunes while it writes: old files go and are counted, what it writes stays whole."""
    old = [finished(tmp_path, n) for n in range(3)]
    removed: Counter[str] = Counter()
    options = LogOptions(tmp_path, ALL, flush_s=0.05, keep=Retention(max_age_s=30 * DAY_S), prune_s=0.05)
    log = PredictionLog(
        "g9",
        manifest(),
        options,
        lambda outcome, rows: counted.update({outcome: rows}),
        on_removed=lambda reason, files: removed.update({reason: files}),
    )
    log.answered([answered(f"r{i}") for i in range(100)])
    wait_for(lambda: removed[AGE] == 3, "the old files to be removed")
    log.answered([answered(f"s{i}") for i in range(100)])
    log.close()
    assert not any(path.exists() for path in old)
    assert (counted, removed) == ({"written": 200}, {AGE: 3})
    (file,) = read_log(tmp_path)
    assert json.loads(file.table.column("sent")[0].as_py())
    assert file.table.num_rows == 200
