"""Processes of a Ray cluster that a test started, as Linux shows them."""

from __future__ import annotations

import os
from pathlib import Path


def by_command_line(word: str) -> list[int]:
    """Processes whose command line holds `word`; one that has ended and was not waited for has none."""
    found = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in found if word.encode() in read(pid, "cmdline")]


def workers(title: str) -> list[int]:
    """Processes below this one whose title begins with `title`, e.g. `ray::Actor.method` while it runs."""
    return [pid for pid in by_command_line(title) if read(pid, "cmdline").startswith(title.encode()) and _below(pid)]


def children(parent: int, module: str) -> list[int]:
    """Child processes of one that run a module of ours by `data.distributed.child_process`."""
    ours = [pid for pid in by_command_line(module) if read(pid, "cmdline").endswith(f"\0{module}\0".encode())]
    return [pid for pid in ours if (fields := _fields(pid)) and int(fields[1]) == parent]


def cpu_ticks(pid: int) -> int:
    """User and system time of a process, in clock ticks; 0 when it is gone."""
    fields = _fields(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def ended(pid: int) -> bool:
    """Whether a process has ended and its files are closed.

    `/proc/PID/exe` is gone before that, and the first thread may be a zombie while another has the files open: a pipe
    to the process then still takes what nobody will read.
    """
    fields = _fields(pid)
    return not fields or (fields[0] in "ZX" and _threads(pid) <= 1)


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except FileNotFoundError:
        return 0


def _below(pid: int) -> bool:
    while fields := _fields(pid):
        pid = int(fields[1])
        if pid == os.getpid():
            return True
    return False


def _fields(pid: int) -> list[str]:
    return read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def read(pid: int, name: str) -> bytes:
    """A file of a process, e.g. `environ`; empty when the process is gone."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def listening(pid: int, host: str) -> list[int]:
    """TCP ports that a process listens on at an IPv4 address."""
    sockets = {_target(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    wanted = "".join(f"{int(part):02X}" for part in reversed(host.split(".")))
    ports = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        address, _, port = fields[1].partition(":")
        if address == wanted and fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
            ports.append(int(port, 16))
    return ports
