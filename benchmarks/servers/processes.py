"""Processes of a server as Linux accounts for them: who they are, CPU time, memory."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_REPLICA = re.compile(r"^ray::ServeReplica:[^:]*:(\w+)")
OTHER = "rest of Ray"
SERVER = "server"


def descendants(root: int, mark: str) -> set[int]:
    """`root`, all below it, and every process whose environment holds `mark` (HAProxy leaves its parent)."""
    parents = {pid: fields[1] for pid in _pids() if (fields := _stat(pid))}
    found = {root} | {pid for pid in parents if mark.encode() in _read(pid, "environ")}
    while more := {pid for pid, parent in parents.items() if int(parent) in found} - found:
        found |= more
    return found


def ray_role(pid: int) -> str:
    """Deployment of a Serve replica, HAProxy, or the rest of Ray."""
    command = _read(pid, "cmdline").decode(errors="replace")
    replica = _REPLICA.match(command)
    if replica:
        return replica[1]
    return "HAProxy" if _read(pid, "comm").strip() == b"haproxy" else OTHER


def ray_proxy_role(pid: int) -> str:
    """The same, where requests pass through Serve's Python proxy."""
    role = ray_role(pid)
    is_proxy = role == OTHER and _read(pid, "cmdline").startswith(b"ray::ProxyActor")
    return "Proxy" if is_proxy else role


def only_role(pid: int) -> str:
    """The role of a server that is one program."""
    return SERVER


def cpu_seconds(pids: Iterable[int]) -> dict[int, float]:
    """User and system time of each process that is still there, in seconds."""
    return {pid: (int(fields[11]) + int(fields[12])) / _TICKS for pid in pids if (fields := _stat(pid))}


def by_role(figures: dict[int, float], role: Callable[[int], str]) -> dict[str, float]:
    """Sum a figure over the processes of a role."""
    sums: dict[str, float] = {}
    for pid, figure in figures.items():
        name = role(pid)
        sums[name] = sums.get(name, 0.0) + figure
    return sums


def pss_mib(pids: Iterable[int]) -> dict[int, float]:
    """Proportional set size of each process, in MiB: shared pages are divided among those who share them."""
    found = {}
    for pid in pids:
        match = re.search(rb"^Pss:\s+(\d+) kB", _read(pid, "smaps_rollup"), re.MULTILINE)
        if match:
            found[pid] = int(match[1]) / 1024
    return found


def machine_busy_seconds() -> float:
    """CPU time that all processes of the machine have used since it started."""
    user, nice, system, _idle, _wait, irq, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + soft) / _TICKS


@contextmanager
def paused(pids: Iterable[int]) -> Iterator[None]:
    """Have processes use no CPU until the block ends: an idle service of Ray's takes up to a third of a core."""
    stopped = list(pids)
    try:
        _signal(stopped, signal.SIGSTOP)
        yield
    finally:
        _signal(stopped, signal.SIGCONT)


def end(pids: Iterable[int], grace_s: float) -> None:
    """Wait for processes to end by themselves, then kill those that are left."""
    left = {pid: fields[19] for pid in pids if (fields := _stat(pid))}
    deadline = time.monotonic() + grace_s
    while (left := {pid: born for pid, born in left.items() if _runs(pid, born)}) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        os.kill(pid, signal.SIGKILL)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _runs(pid: int, born: str) -> bool:
    fields = _stat(pid)
    # The same number with another start time is another process.
    return bool(fields) and fields[19] == born and fields[0] != "Z"


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, ...; empty when the process is gone."""
    return _read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
