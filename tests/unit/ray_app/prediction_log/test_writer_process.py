"""The process that writes the prediction log: killed, hung, or on a full disk, it takes no more than it may."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from data.distributed.child_process import start_child
from data.prediction_log.file_summary import lost_rows, summaries
from data.prediction_log.files import PARQUET, STREAM, read_file, read_log
from ray_app.prediction_log.log import LogOptions, PredictionLog
from ray_app.prediction_log.stream_files import recover
from tests.support.environment.processes import children, ended
from tests.support.environment.waiting import wait_for
from tests.support.serving.predict_app import manifest
from tests.support.serving.prediction_log import ALL, answered
from tests.support.serving.prediction_log import counted as counted

LOG_WRITER = "ray_app.prediction_log.writer_process"


GATEWAY = """
import resource, sys, time
from collections import Counter
from pathlib import Path
from ray_app.prediction_log.log import LogOptions, PredictionLog
from tests.support.serving.predict_app import manifest
from tests.support.serving.prediction_log import ALL, answered
count = Counter()
limit = int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
options = LogOptions(Path(sys.argv[1]), ALL, flush_s=0.05)
log = PredictionLog("gateway-9", manifest(), options, lambda outcome, rows: count.update({outcome: rows}))
sent = 0
while True:
    log.answered([answered(f"r{sent + i}") for i in range(20)])
    sent += 20
    time.sleep(0.01)
    print(sent, count["written"], count["lost"], flush=True)
"""


class Counts(NamedTuple):
    """What a gateway says of its log."""

    sent: int
    written: int
    lost: int


@contextmanager
def _gateway(folder: Path, limit: int = 0) -> Iterator[subprocess.Popen[str]]:
    """A gateway that answers until it is killed, at the end of the block at the latest."""
    command = [sys.executable, "-c", GATEWAY, str(folder), str(limit)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[4]) as process:
        try:
            yield process
        finally:
            process.kill()


def _read_until(process: subprocess.Popen[str], enough: Callable[[Counts], bool]) -> Counts:
    """Return the first counts that the gateway prints for which `enough` is true."""
    assert process.stdout is not None
    for line in process.stdout:
        counts = Counts(*(int(word) for word in line.split()))
        if enough(counts):
            return counts
    raise AssertionError("the gateway ended")


def _writer_of(log: PredictionLog) -> int:
    """Id of the process that writes a log of this process, once it has been started."""
    wait_for(lambda: log.writer_pid is not None, "the writer")
    assert log.writer_pid is not None
    return log.writer_pid


class SlowStarts:
    """Starts writers for real, each when the gate is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.asked = 0
        self.started = 0
        monkeypatch.setattr("ray_app.prediction_log.log.start_child", self._start)

    def _start(self, module: str) -> subprocess.Popen[bytes]:
        self.asked += 1
        self.gate.wait(60)
        self.started += 1
        return start_child(module)


def test_nobody_waits_for_the_writer_to_start(tmp_path: Path, counted: Counter[str], monkeypatch: pytest.MonkeyPatch):
    """While a writer is started, the first or another, rows wait up to the limit, the others count as dropped."""
    starts = SlowStarts(monkeypatch)
    options = LogOptions(tmp_path, ALL, flush_s=0.05, limit=300)
    log = PredictionLog("g", manifest(), options, lambda o, n: counted.update({o: n}))
    log.answered([answered(f"a{i}") for i in range(400)])
    assert (starts.started, counted, log.waiting) == (0, {"dropped": 100}, 300)
    starts.gate.set()
    wait_for(lambda: counted["written"] == 300, "the rows that waited to be written")

    starts.gate.clear()
    os.kill(_writer_of(log), signal.SIGKILL)
    wait_for(lambda: starts.asked == 2, "another writer to be asked for")
    log.answered([answered(f"b{i}") for i in range(400)])
    assert (starts.started, counted["dropped"], log.waiting) == (1, 200, 300)
    starts.gate.set()
    wait_for(lambda: counted["written"] == 600, "the rows that waited to be written")
    log.close()
    assert counted == {"dropped": 200, "written": 600}


def test_without_a_writer_rows_are_counted(tmp_path: Path, counted: Counter[str], monkeypatch: pytest.MonkeyPatch):
    """Where no process can be started, the log says so, and its rows count as dropped at the end."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    log = PredictionLog("g", manifest(), LogOptions(tmp_path, ALL), lambda o, n: counted.update({o: n}))
    log.answered([answered(f"r{i}") for i in range(100)])
    log.close()
    assert counted == {"dropped": 100}


def test_a_killed_gateway_loses_no_more_than_a_moment(tmp_path: Path):
    """kill -9 of the gateway: the process that writes for it writes all that it got, as Parquet, and ends."""
    with _gateway(tmp_path) as process:
        counts = _read_until(process, lambda counts: counts.written > 400)
        (writer,) = children(process.pid, LOG_WRITER)
        process.kill()
    wait_for(lambda: ended(writer), "the writer to be gone")
    (file,) = read_log(tmp_path)
    assert file.table.num_rows >= counts.written
    assert lost_rows(summaries(tmp_path)) == 0
    assert {each.suffix for each in tmp_path.rglob("*.*")} == {PARQUET}


def test_a_killed_writer_loses_no_more_than_its_last_flush(tmp_path: Path):
    """kill -9 of the writer: what it had flushed is read, the rest counted as lost, and another one goes on."""
    with _gateway(tmp_path) as process:
        counts = _read_until(process, lambda counts: counts.written > 400)
        (writer,) = children(process.pid, LOG_WRITER)
        # Held up first, for it to die with rows that it has not written.
        os.kill(writer, signal.SIGSTOP)
        _read_until(process, lambda later: later.sent > counts.sent + 1000)
        os.kill(writer, signal.SIGKILL)
        again = _read_until(process, lambda counts: counts.lost > 0)
        more = _read_until(process, lambda counts: counts.written > again.written)
        (other,) = children(process.pid, LOG_WRITER)
        process.kill()
    wait_for(lambda: ended(other), "the other writer to be gone")
    assert len(list(tmp_path.rglob(f"*{PARQUET}"))) == 1
    (stream,) = tmp_path.rglob(f"*{STREAM}")
    first = read_file(stream)
    assert first.table.num_rows >= counts.written
    assert more.lost < more.sent - counts.written

    os.utime(stream, (1, 1))
    recover(tmp_path)
    assert not list(tmp_path.rglob(f"*{STREAM}"))
    assert first.table.num_rows in [file.table.num_rows for file in read_log(tmp_path)]


def test_a_writer_that_hangs_holds_nobody_up(tmp_path: Path, counted: Counter[str]):
    """kill -STOP of the writer: rows wait up to the limit, the others are counted as dropped; then it goes on."""
    log = PredictionLog("g", manifest(), LogOptions(tmp_path, ALL, limit=500), lambda o, n: counted.update({o: n}))
    writer = _writer_of(log)
    os.kill(writer, signal.SIGSTOP)
    try:
        for number in range(50):
            log.answered([answered(f"{number}-{i}") for i in range(100)])
        assert counted.keys() == {"dropped"}
    finally:
        os.kill(writer, signal.SIGCONT)
    log.close()
    assert counted["written"] >= 500
    assert counted["written"] + counted["dropped"] == 5000


def test_a_writer_killed_at_the_end_takes_no_row_uncounted(tmp_path: Path, counted: Counter[str]):
    """kill -9 of the writer as its gateway ends: what it had is counted as lost, and nothing goes uncounted."""
    log = PredictionLog("g", manifest(), LogOptions(tmp_path, ALL, flush_s=30), lambda o, n: counted.update({o: n}))
    writer = _writer_of(log)
    os.kill(writer, signal.SIGSTOP)
    log.answered([answered(f"a{i}") for i in range(128)])
    os.kill(writer, signal.SIGKILL)
    wait_for(lambda: ended(writer), "the writer to be gone")
    log.answered([answered(f"b{i}") for i in range(64)])
    log.close()
    assert counted["lost"] == 128
    assert counted.total() == 192


@pytest.mark.parametrize("room", [60_000, 1], ids=["fills up", "full from the start"])
def test_a_full_disk_costs_rows_and_nothing_else(tmp_path: Path, room: int):
    """The disk refuses: rows are lost and counted, the gateway goes on, what was written is readable; no orphan."""
    with _gateway(tmp_path, limit=room) as process:
        counts = _read_until(process, lambda counts: counts.lost > 0)
        assert _read_until(process, lambda later: later.sent > counts.sent + 1000).written == counts.written
        (writer,) = children(process.pid, LOG_WRITER)
        process.kill()
    wait_for(lambda: ended(writer), "the writer to be gone")
    assert bool(counts.written) == (room > 1)
    assert sum(file.table.num_rows for file in read_log(tmp_path)) >= counts.written
