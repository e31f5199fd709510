"""Who listens on a TCP port of this machine, and whether a server of ours could (Linux tells in /proc)."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import NamedTuple

_LISTENING = "0A"  # the state as /proc/net/tcp writes it
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LONGEST = 120


class Listener(NamedTuple):
    """A process that listens: its id and its command line."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"pid {self.pid}, {self.command}"


def bind_fault(host: str, port: int) -> str | None:
    """Why a server cannot listen at `host:port` now, in words that name who does; None when it can.

    Args:
        host: an address or name of this machine, or `0.0.0.0`.
        port: TCP port.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        return f"{host} is neither an address nor a known name"
    with socket.socket(family, kind, protocol) as probe:
        # What was closed a moment ago does not count; who listens does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as exc:
            return _reason(host, port, exc)
    return None


def _reason(host: str, port: int, exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"port {port} is taken by {listener(port) or 'a process that this user may not look at'}"
    if exc.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine"
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} is for privileged users"
    return f"{host}:{port} cannot be listened on: {exc.strerror}"


def listener(port: int) -> Listener | None:
    """Return who listens on a port; None when nobody does or the system does not tell."""
    sockets = {f"socket:[{inode}]" for table in _TABLES for inode in _listening(Path(table), port)}
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        if sockets & _open_files(process):
            return Listener(int(process.name), _command(process))
    return None


def _listening(table: Path, port: int) -> list[str]:
    """The inodes of the sockets that listen on a port."""
    try:
        rows = [line.split() for line in table.read_text("ascii").splitlines()[1:]]
    except OSError:
        return []
    return [row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port]


def _open_files(process: Path) -> set[str]:
    files: set[str] = set()
    try:
        for file in (process / "fd").iterdir():
            files.add(os.readlink(file))
    except OSError:
        # It has ended meanwhile, or belongs to another user.
        return files
    return files


def _command(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return "a process that has just ended"
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]} ..."
