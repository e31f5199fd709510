"""A real Kafka broker for tests, without Docker: the server from Maven Central on the Java at hand.

The jars are fetched once into `~/.cache/rayscore/kafka-4.1.2` (or the folder in KAFKA_TEST_CACHE). Where Java 17 or
Maven is missing `missing` says so (`tests/support/environment/programs.py`).
"""

from __future__ import annotations

import atexit
import contextlib
import select
import socket
import socketserver
import string
import subprocess
import threading
from collections.abc import Iterator, Sequence
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, Producer
from confluent_kafka.admin import (  # pyright: ignore[reportPrivateImportUsage]
    AdminClient,
    ConsumerGroupDescription,
    NewTopic,
)

from tests.support.environment.ports import free_port
from tests.support.services.java_program import JavaProgram

_FILES = Path(__file__).parent / "kafka_broker"
_PROGRAM = JavaProgram("Kafka", "4.1.2", _FILES / "pom.xml", range(17, 100), "17 or later")
_CLUSTER_ID = "rayscoreTestsCluster01"
_QUEUED = 50_000
"""Messages that the producer holds at once; beyond 100,000 it refuses one."""
_START_S = 240.0
_READY = "Kafka Server started"
USER, PASSWORD = "ingest", "sixteen letters or more"
"""Who may log in at `Broker.secure_address`."""
_running: list[Broker] = []


class Broker:
    """One Kafka process and its folder; starting it again finds the topics it had.

    Args:
        home: folder of data, configuration and log.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self.port, self.secure_port, self._controller_port = free_port(), free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def secure_address(self) -> str:
        """`host:port` for clients that speak TLS and log in as USER with PASSWORD (mechanism PLAIN)."""
        return f"127.0.0.1:{self.secure_port}"

    @property
    def certificate(self) -> Path:
        """The certificate of the broker, signed by itself."""
        return self.home / "certificate.pem"

    def start(self) -> Broker:
        """Start the process and wait until it takes connections."""
        jars = _PROGRAM.fetch_jars()
        self.home.mkdir(parents=True, exist_ok=True)
        if not (self.home / "data").exists():
            self._format(jars)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(jars, "kafka.Kafka", str(self._properties)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _running.append(self)
        self._wait_ready()
        return self

    def kill(self) -> None:
        """End the process with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            _running.remove(self)

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Create a topic and wait until it is there."""
        self._admin.create_topics([NewTopic(name, partitions, 1)])[name].result(_START_S)

    def send(self, topic: str, messages: Sequence[bytes]) -> None:
        """Send messages, over the topic's partitions in turn, and wait until the broker has them."""
        producer = Producer({"bootstrap.servers": self.address, "linger.ms": 5, "enable.idempotence": True})
        for start in range(0, len(messages), _QUEUED):
            for message in messages[start : start + _QUEUED]:
                producer.produce(topic, message)
            assert producer.flush(_START_S) == 0

    @contextlib.contextmanager
    def door(self, port: int) -> Iterator[None]:
        """Have the broker answer at another port of this machine too."""
        with socketserver.ThreadingTCPServer(("127.0.0.1", port), partial(_Relay, self.port)) as server:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield
            server.shutdown()

    def members(self, group: str) -> int:
        """How many members a consumer group has, those that wait for their share included."""
        return len(self._group(group).members)

    def shares(self, group: str) -> list[int]:
        """How many partitions each member of a consumer group has; empty while they are being shared out."""
        found = self._group(group)
        if found.state is not ConsumerGroupState.STABLE:
            return []
        return sorted(len(each.assignment.topic_partitions) for each in found.members)

    def committed(self, group: str) -> int:
        """How many messages a consumer group has told to be done, over all partitions."""
        asked = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group]
        return sum(max(each.offset, 0) for each in asked.result(_START_S).topic_partitions or ())

    def _group(self, name: str) -> ConsumerGroupDescription:
        return self._admin.describe_consumer_groups([name])[name].result(_START_S)

    @cached_property
    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.address})

    @property
    def _log(self) -> Path:
        return self.home / "broker.log"

    @property
    def _properties(self) -> Path:
        return self.home / "server.properties"

    def _format(self, jars: Path) -> None:
        self._sign()
        names = {"port": self.port, "controller_port": self._controller_port, "home": self.home}
        names |= {"secure_port": self.secure_port, "user": USER, "password": PASSWORD}
        template = string.Template((_FILES / "server.properties").read_text())
        self._properties.write_text(template.substitute(names))
        options = ["format", "-t", _CLUSTER_ID, "-c", str(self._properties)]
        command = self._command(jars, "kafka.tools.StorageTool", *options)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]

    def _sign(self) -> None:
        key = self.home / "key.pem"
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
        options = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(key), "-out", str(self.certificate)]
        subprocess.run(["openssl", "req", "-x509", *options, *names], capture_output=True, check=True)
        (self.home / "broker.pem").write_bytes(key.read_bytes() + self.certificate.read_bytes())

    def _command(self, jars: Path, main: str, *options: str) -> list[str]:
        jvm = ["-Xms256m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"]
        return ["java", *jvm, "-Dorg.slf4j.simpleLogger.defaultLogLevel=info", "-cp", f"{jars}/*", main, *options]

    def _wait_ready(self) -> None:
        assert self._process is not None
        for _ in range(int(_START_S / 0.2)):
            if _READY in self._log.read_text(errors="replace"):
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)
                break
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
        self.kill()
        pytest.fail(f"Kafka at {self.address} was not ready in {_START_S:.0f} s; end of {self._log}:\n{tail}")


class _Relay(socketserver.BaseRequestHandler):
    """Passes bytes on between a client and a port of this machine, both ways, until one of them ends."""

    def __init__(self, port: int, *given: Any) -> None:
        self._port = port
        super().__init__(*given)

    def handle(self) -> None:
        """Pass on what comes."""
        with socket.create_connection(("127.0.0.1", self._port)) as broker:
            ends = {self.request: broker, broker: self.request}
            while True:
                for end in select.select([*ends], [], [])[0]:
                    sent = end.recv(65_536)
                    if not sent:
                        return
                    ends[end].sendall(sent)


@cache
def missing() -> str | None:
    """What keeps it from being started here, and how to have it; None where all is there."""
    return _PROGRAM.missing()


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for every test that needs one, started at first use."""
    broker = Broker(tmp_path_factory.mktemp("kafka")).start()
    yield broker
    broker.kill()


@atexit.register
def _end_all() -> None:
    for broker in [*_running]:
        broker.kill()
