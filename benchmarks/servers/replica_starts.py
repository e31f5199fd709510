"""Benchmark of replacing a killed model replica: time until the new one takes calls, by phase."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from benchmarks.servers.service import Bench

Found = TypeVar("Found")

_TICKS = os.sysconf("SC_CLK_TCK")
_WAIT_S = 60.0
_POLL_S = 0.02

_PHASES = """
import sys, time
marks = [time.perf_counter()]
import ray
marks.append(time.perf_counter())
from ray.serve._private import replica
marks.append(time.perf_counter())
from ray_app.deployments.replica_spec import ReplicaSpec
marks.append(time.perf_counter())
from pathlib import Path
from ray_app.inference.models.onnx_model import OnnxModel
from tune.registry.bundle import Bundle
packed = Path(sys.argv[1]).read_bytes()
marks.append(time.perf_counter())
OnnxModel(Bundle.from_bytes(packed))
marks.append(time.perf_counter())
print(*(after - before for before, after in zip(marks, marks[1:])))
"""


class Start(NamedTuple):
    """Times of one replacement in s from the kill; `process_s` is negative for a process that Ray had prestarted."""

    process_s: float
    named_s: float
    ready_s: float


def replace(bench: Bench) -> Start:
    """Kill one of two model replicas and time until the gateway can call two again."""
    before = set(bench.replicas("Model"))
    os.kill(min(before), signal.SIGKILL)
    killed = _now()
    new = _until(lambda: set(bench.replicas("Model")) - before)
    named = _now()
    _until(lambda: bench.links().get("Model") == 2)
    return Start(_started(new.pop()) - killed, named - killed, _now() - killed)


def phases(bundle: Path) -> list[float]:
    """Time in s that a new process takes to import Ray, Serve's replica and ours, and to load and warm up the model.

    The fourth is the reading of the file, which a replica does not do.
    """
    command = [sys.executable, "-c", _PHASES, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def _now() -> float:
    """The clock that the kernel books the start of processes by."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _until(condition: Callable[[], Found]) -> Found:
    deadline = time.monotonic() + _WAIT_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no new replica in {_WAIT_S:g} s")
        time.sleep(_POLL_S)
    return found


def _started(pid: int) -> float:
    """When a process was started, by that clock."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(stat[19]) / _TICKS
