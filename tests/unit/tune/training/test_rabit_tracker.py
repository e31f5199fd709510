"""XGBoost's tracker in a process of its own: what ends it ends nothing else, and it outlives nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from data.errors import TrainingFailed
from tests.support.environment.waiting import wait_for
from tune.training.rabit_tracker import TrackerProcess

WORKER = """
import json, sys
import numpy
from xgboost import collective
print("here", flush=True)
with collective.CommunicatorContext(**json.loads(sys.argv[1]), dmlc_task_id=sys.argv[2]):
    total = collective.allreduce(numpy.ones(1), collective.Op.SUM)[0]
print("sum", total, flush=True)
"""


@contextmanager
def tracker() -> Iterator[TrackerProcess]:
    """One that has started, and is stopped with the block."""
    process = TrackerProcess()
    try:
        yield process
    finally:
        process.stop(0)


def worker(arguments: dict, name: str) -> subprocess.Popen[str]:
    """A worker that is about to connect."""
    command = [sys.executable, "-c", WORKER, json.dumps(arguments), name]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    return process


def test_workers_meet_and_the_tracker_ends_with_them():
    """Two workers sum what they have; when both have said goodbye the process is gone without being killed."""
    with tracker() as process:
        arguments = process.begin(2, "127.0.0.1")
        workers = [worker(arguments, f"{rank:06d}") for rank in range(2)]
        assert all("sum 2.0\n" in each.communicate(timeout=60)[0] for each in workers)
        process.stop(30)
        assert process.exit_code == 0


def test_a_worker_killed_while_it_connects_ends_the_tracker_alone():
    """XGBoost's tracker does not get over a worker that is gone when the last one comes; this process goes on."""
    with tracker() as process:
        arguments = process.begin(2, "127.0.0.1")
        dead = worker(arguments, "000000")
        wait_for(lambda: connected(int(arguments["dmlc_tracker_port"])) and idle(dead.pid), "the worker to have asked")
        dead.kill()
        dead.wait()
        late = worker(arguments, "000001")
        wait_for(lambda: process.exit_code is not None, "the tracker to end")
        assert process.exit_code != 0
        late.kill()
        late.wait()


def test_it_ends_with_its_parent():
    """The parent killed, before it has begun or after, leaves no tracker behind."""
    code = """
import os, signal, sys
from tune.training.rabit_tracker import TrackerProcess
idle, begun = TrackerProcess(), TrackerProcess()
begun.begin(1, "127.0.0.1")
print(idle.pid, begun.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids), "the trackers to be gone")


def test_an_address_that_is_not_there_is_told():
    """It cannot listen on an address of another machine: named, instead of a fit that waits."""
    with tracker() as process, pytest.raises(TrainingFailed, match=r"could not listen on 192\.0\.2\.77"):
        process.begin(1, "192.0.2.77")


def idle(pid: int) -> bool:
    """True when a process has used no CPU for half a second: it waits for an answer.

    Killed before it has sent all that it says, it is only one that never came.
    """

    def ticks() -> list[str]:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(") ")[2].split()[11:13]

    before = ticks()
    time.sleep(0.5)
    return ticks() == before


def connected(port: int) -> bool:
    """True when somebody is connected to a port of this machine."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return any(int(local.split(":")[1], 16) == port and state == "01" for _, local, _, state, *_ in rows)
