"""Real Cassandra nodes for tests, without Docker: the daemon from Maven Central on the Java at hand.

The jars are fetched once into `~/.cache/rayscore/cassandra-5.0.8` (or the folder in CASSANDRA_TEST_CACHE).
Where Java 11 or 17 or Maven is missing `missing` says so (`tests/support/environment/programs.py`).
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import shutil
import signal
import socket
import string
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cassandra.cluster import Cluster

from data.settings import Settings
from tests.support.environment.ports import free_port
from tests.support.services.java_program import JavaProgram

_FILES = Path(__file__).parent / "cassandra_node"
_PROGRAM = JavaProgram("Cassandra", "5.0.8", _FILES / "pom.xml", (11, 17), "11 or 17")
_START_S = 240.0
_READY = "Starting listening for CQL clients"
_TOKENS = (-9223372036854775808, -3074457345618258603, 3074457345618258602)
_running: list[Node] = []


class Node:
    """One Cassandra process and its folder; starting it again finds the data it had.

    Args:
        home: folder of data, configuration and log.
        host: address it listens on.
        ports: native protocol, storage and encrypted storage port; free ones by default.
        token: its place in the ring.
        seed: `host:storage_port` of the node to join; itself by default.
        heap: heap size of the JVM.
        optimizing: let the JVM use its optimizing compiler, which takes 6 s of a CPU at the start: it pays where the
            node's speed matters.
    """

    def __init__(
        self,
        home: Path,
        *,
        host: str = "127.0.0.1",
        ports: tuple[int, int, int] | None = None,
        token: int = _TOKENS[0],
        seed: str | None = None,
        heap: str = "512m",
        optimizing: bool = False,
    ) -> None:
        self.home = home.absolute()
        self.host = host
        self.port, self._storage_port, self._ssl_port = ports or _free_ports()
        self._token = token
        self._seed = seed or f"{host}:{self._storage_port}"
        self._heap = heap
        self._optimizing = optimizing
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """`host:port` of the native protocol."""
        return f"{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        """False before the start and after `kill` and `stop`."""
        return self._process is not None

    @property
    def log(self) -> Path:
        """What the process has written since it was last started."""
        return self.home / "node.log"

    def settings(self, **fields: Any) -> Settings:
        """Settings that lead to this node; reads may take 15 s, for a cold JVM on a busy machine."""
        defaults = {"store": "cassandra", "cassandra_hosts": self.address, "cassandra_read_timeout_ms": 15_000}
        return Settings(**{**defaults, **fields})

    def start(self) -> Node:
        """Start the process and wait until it takes connections."""
        jars = _PROGRAM.fetch_jars()
        (self.home / "triggers").mkdir(parents=True, exist_ok=True)
        self._configure()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(jars), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        _running.append(self)
        self.wait_log(_READY)
        while not _connects(self.host, self.port):  # the line is written a moment before
            time.sleep(0.05)
        # Its first answers take seconds on a busy machine, more than the store waits for a connection.
        with Cluster([(self.host, self.port)], connect_timeout=_START_S, control_connection_timeout=_START_S) as warm:
            warm.connect().execute("SELECT release_version FROM system.local", timeout=_START_S)
        return self

    def wait_log(self, text: str) -> None:
        """Wait until the process has written `text`; fail the test when it ends or takes too long."""
        assert self._process is not None, f"{self.address} is not running"
        for _ in range(int(_START_S / 0.2)):
            if text in self.log.read_text(errors="replace"):
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)
                break
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        self.kill()
        pytest.fail(f"Cassandra at {self.address} wrote no '{text}' in {_START_S:.0f} s; end of {self.log}:\n{tail}")

    def kill(self) -> None:
        """End the process with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            _running.remove(self)

    def stop(self) -> None:
        """End the process in an orderly way."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
            self.kill()

    def pause(self) -> None:
        """Freeze the process: its sockets stay open and nothing answers once this returns."""
        assert self._process is not None, f"{self.address} is not running"
        self._process.send_signal(signal.SIGSTOP)
        threads = Path(f"/proc/{self._process.pid}/task")
        while any(_state(thread) not in "TXZ" for thread in threads.iterdir()):
            time.sleep(0.001)

    def resume(self) -> None:
        """Let a frozen process go on."""
        assert self._process is not None, f"{self.address} is not running"
        self._process.send_signal(signal.SIGCONT)

    def _configure(self) -> None:
        shutil.copy(_FILES / "logback.xml", self.home)
        names = {
            "host": self.host,
            "port": self.port,
            "storage_port": self._storage_port,
            "ssl_port": self._ssl_port,
            "token": self._token,
            "seed": self._seed,
        }
        template = string.Template((_FILES / "cassandra.yaml").read_text())
        (self.home / "cassandra.yaml").write_text(template.safe_substitute(names))

    def _command(self, jars: Path) -> list[str]:
        home = self.home
        properties = {
            "java.net.preferIPv4Stack": "true",
            "cassandra-foreground": "yes",
            "cassandra.libjemalloc": "-",
            "cassandra.storagedir": home,
            "cassandra.logdir": home,
            "cassandra.triggers_dir": home / "triggers",
            "cassandra.config": (home / "cassandra.yaml").as_uri(),
            "logback.configurationFile": (home / "logback.xml").as_uri(),
            "cassandra-rackdc.properties": (_FILES / "cassandra-rackdc.properties").as_uri(),
            "cassandra.skip_wait_for_gossip_to_settle": 0,
            "cassandra.ring_delay_ms": 1000,
            "cassandra.superuser_setup_delay_ms": 500,  # at 0 it keeps a core busy while a peer is missing
            "cassandra.consistent.rangemovement": "false",
            "cassandra.shutdown_announce_in_ms": 0,
        }
        return [
            "java",
            f"@{_FILES / 'jvm17.args'}",
            f"-javaagent:{next(jars.glob('jamm-*.jar'))}",
            f"-Xms{self._heap}",
            f"-Xmx{self._heap}",
            "-XX:MaxDirectMemorySize=256m",
            "-XX:+UseSerialGC",
            *([] if self._optimizing else ["-XX:TieredStopAtLevel=1"]),
            "-XX:+ExitOnOutOfMemoryError",
            *(f"-D{name}={value}" for name, value in properties.items()),
            "-cp",
            f"{jars}/*",
            "org.apache.cassandra.service.CassandraDaemon",
        ]


def ring(home: Path, *, optimizing: bool = False) -> list[Node]:
    """Start three nodes of one cluster on 127.0.0.1, .2 and .3; replicas of a key go to any of them."""
    hosts = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
    ports = _free_ports()
    seed = f"{hosts[0]}:{ports[1]}"
    nodes = [
        Node(home / host, host=host, ports=ports, token=token, seed=seed, heap="384m", optimizing=optimizing)
        for host, token in zip(hosts, _TOKENS, strict=True)
    ]
    for node in nodes:
        node.start()
    for node, peer in itertools.permutations(nodes, 2):
        node.wait_log(f"InetAddress /{peer.host}:{ports[1]} is now UP")
    return nodes


@cache
def missing() -> str | None:
    """What keeps it from being started here, and how to have it; None where all is there."""
    return _PROGRAM.missing()


@pytest.fixture(scope="session")
def cassandra_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node for every test that needs one, started at first use."""
    node = Node(tmp_path_factory.mktemp("cassandra")).start()
    yield node
    node.kill()


def _free_ports() -> tuple[int, int, int]:
    return free_port(), free_port(), free_port()


def _state(thread: Path) -> str:
    """The state letter of a thread, X when it has ended meanwhile."""
    try:
        return (thread / "stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return "X"


def _connects(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


@atexit.register
def _end_all() -> None:
    for node in [*_running]:
        node.kill()
