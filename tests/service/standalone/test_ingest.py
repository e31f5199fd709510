"""`rayscore ingest` as a process of its own that is killed: nothing is lost and nothing is there twice."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.environment.ports import free_port
from tests.support.environment.waiting import wait_for
from tests.support.services.kafka import PASSWORD, USER, Broker
from tests.support.training.cards_in_time import INGESTED_CARDS

_LINE = re.compile(
    r"^transactions: ([\d,]+) events? taken, ([\d,]+) repeated, 0 revised, 0 superseded, 0 conflicts$", re.M
)


class Place:
    """A folder with a use case, in which the command runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "cards.toml").write_text(INGESTED_CARDS)

    @contextmanager
    def running(self, *words: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
        """The command while it runs; killed at the end where it has not ended before."""
        command = [sys.executable, "-m", "data", "ingest", *words, "--use-case", str(self.folder / "cards.toml")]
        environment = {**os.environ, "RAYSCORE_VAR_DIR": str(self.folder / "var"), **settings}
        child = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            yield child
        finally:
            child.kill()
            child.communicate()

    def run(self, *words: str) -> tuple[int, int]:
        """Let the command end by itself; returns how many events it took, and how many were there already."""
        with self.running(*words) as child:
            out, err = child.communicate(timeout=300)
            assert child.returncode == 0, err
        return _taken(out)

    def stored(self) -> list[bytes]:
        """The keys of the events in the store, each as often as it is there."""
        file = self.folder / "var" / "events.db"
        if not file.exists():
            return []
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            try:
                return [key for (key,) in connection.execute("SELECT key FROM events ORDER BY key")]
            except sqlite3.OperationalError:  # made a moment later
                return []

    def entity_rows(self) -> int:
        """How many rows the events have in the table that windows read: one for each of two entities."""
        with closing(sqlite3.connect(f"file:{self.folder / 'var' / 'events.db'}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM entity_events").fetchone()[0]

    @contextmanager
    def locked_store(self) -> Iterator[None]:
        """Hold the store's lock as another writer does: no event is stored meanwhile."""
        with closing(sqlite3.connect(self.folder / "var" / "events.db", timeout=60)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.rollback()

    def dead_letters(self, topic: str) -> list[dict]:
        """The messages that were set aside."""
        return [orjson.loads(line) for line in (self.folder / f"var/ingest/{topic}.jsonl").read_bytes().splitlines()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A new folder."""
    return Place(tmp_path)


def test_a_backfill_that_was_killed_is_repeated_whole(place: Place):
    """Killed in the middle and run again: what was stored is repeated, the rest is taken, each event is there once."""
    rows, now = 60_000, time.time_ns() // 1000
    table = pa.table(
        {
            "transaction_id": np.arange(rows),
            "timestamp": pa.array(now - np.arange(rows)[::-1] * 1_000_000, pa.timestamp("us")),
            "user_id": [f"u{at % 97}" for at in range(rows)],
            "terminal_id": np.arange(rows) % 31,
            "amount": np.arange(rows) / 100,
        }
    )
    pq.write_table(table, place.folder / "t.parquet")
    with place.running(str(place.folder / "t.parquet")) as child:
        wait_for(lambda: len(place.stored()) > 0, "the first events in the store", every_s=0.01)
        child.kill()
    before = len(place.stored())
    assert 0 < before < rows
    assert place.run(str(place.folder / "t.parquet")) == (rows - before, before)
    assert place.run(str(place.folder / "t.parquet")) == (0, rows)
    assert len(place.stored()) == len(set(place.stored())) == rows
    assert place.entity_rows() == 2 * rows


@pytest.mark.kafka
def test_a_topic_is_stored_once_whatever_is_killed(place: Place, kafka_broker: Broker):
    """The ingester is killed in the middle, the broker is killed and comes back: 0 events lost, 0 doubled.

    The three messages that are none are set aside once, with where they were, and SIGTERM ends the last ingester with
    its offsets committed.
    """
    topic, poison = "transactions", [b"nope", b"{}", b'{"transaction_id": 1}']
    kafka_broker.create_topic(topic, partitions=2)
    address = f"kafka://{kafka_broker.address}/{topic}"
    with place.running(address) as first:
        kafka_broker.send(topic, [*_messages(0, 600), poison[0], *_messages(600, 1000), poison[1]])
        wait_for(lambda: len(place.stored()) > 0, "the first events in the store", every_s=0.01)
        first.kill()
    with place.running(address) as second:
        wait_for(lambda: len(place.stored()) == 1000, "the events of the killed ingester")
        kafka_broker.kill()
        kafka_broker.start()
        kafka_broker.send(topic, [poison[2], *_messages(1000, 1997)])
        wait_for(lambda: len(place.stored()) == 1997, "the events after the broker came back")
        wait_for(lambda: len(place.dead_letters(topic)) == 3, "the last dead letter")
        second.send_signal(signal.SIGTERM)
        out, _ = second.communicate(timeout=120)
    assert second.returncode == 130
    assert sum(_taken(out)) > 0
    assert place.run(address, "--until-end") == (0, 0)
    assert len(set(place.stored())) == len(place.stored()) == 1997
    letters = place.dead_letters(topic)
    assert sorted(each["message"].encode() for each in letters) == sorted(poison)
    assert {each["topic"] for each in letters} == {topic}


@pytest.mark.kafka
def test_a_rebalance_in_mid_batch_loses_and_doubles_nothing(place: Place, kafka_broker: Broker):
    """A second ingester joins while the first stands in the middle of a batch, then the first is killed in another.

    Another writer holds the store's lock meanwhile, so that the batch stays half stored until the second has joined.
    """
    topic, group, first_sent, all_sent = "rebalanced", "rebalance", 20_000, 40_000
    kafka_broker.create_topic(topic, partitions=4)
    options, door = ("--group", group), free_port()
    with (
        ExitStack() as opened,
        place.running(f"kafka://127.0.0.1:{door}/{topic}", *options) as second,
        place.running(f"kafka://{kafka_broker.address}/{topic}", *options) as first,
    ):
        assert second.stderr is not None
        while "does not answer" not in second.stderr.readline():  # it has the store open by then
            assert second.poll() is None
        kafka_broker.send(topic, _messages(0, first_sent))
        wait_for(lambda: len(place.stored()) > 0, "the first events in the store", every_s=0.01)
        with place.locked_store():
            stored = len(place.stored())
            opened.enter_context(kafka_broker.door(door))
            wait_for(lambda: kafka_broker.members(group) == 2, "a second member of the group")
            assert len(place.stored()) == stored < first_sent
        wait_for(lambda: kafka_broker.shares(group) == [2, 2], "two partitions for each member")
        wait_for(lambda: len(place.stored()) == first_sent, "the events of both members")
        kafka_broker.send(topic, _messages(first_sent, all_sent))
        wait_for(lambda: len(place.stored()) > first_sent, "the next events in the store", every_s=0.01)
        first.kill()
        assert len(place.stored()) < all_sent
        wait_for(lambda: kafka_broker.committed(group) == all_sent, "the events of the killed member")
    assert place.run(f"kafka://{kafka_broker.address}/{topic}", *options, "--until-end") == (0, 0)
    assert place.entity_rows() == 2 * all_sent == 2 * len(set(place.stored()))


@pytest.mark.kafka
def test_a_broker_that_asks_for_tls_and_login_is_read(place: Place, kafka_broker: Broker):
    """With certificate and password the topic is stored; without either the command ends and says why.

    The password stands in a file, and is shown nowhere.
    """
    topic, password = "secured", place.folder / "password"
    kafka_broker.create_topic(topic)
    kafka_broker.send(topic, _messages(0, 50))
    password.write_text(f"{PASSWORD}\n")
    given = {
        "RAYSCORE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "RAYSCORE_KAFKA_USERNAME": USER,
        "RAYSCORE_KAFKA_PASSWORD_FILE": str(password),
        "RAYSCORE_KAFKA_CA_FILE": str(kafka_broker.certificate),
    }
    words = f"kafka://{kafka_broker.secure_address}/{topic}", "--until-end"
    for without, reason in (("RAYSCORE_KAFKA_CA_FILE", "certificate verify failed"), ("", "Authentication failed")):
        wrong = {name: value for name, value in given.items() if name != without}
        password.write_text(f"{PASSWORD}\n" if without else "another password")
        with place.running(*words, **wrong) as child:
            out, err = child.communicate(timeout=120)
        assert (child.returncode, out) == (2, "")
        assert reason in err
        assert "RAYSCORE_KAFKA_" in err
        assert password.read_text().strip() not in err
    password.write_text(f"{PASSWORD}\n")
    with place.running(*words, **given) as child:
        out, err = child.communicate(timeout=120)
    assert (child.returncode, _taken(out)) == (0, (50, 0)), err
    assert PASSWORD not in out + err


def _messages(first: int, last: int) -> list[bytes]:
    now = int(time.time())
    return [
        json.dumps(
            {
                "transaction_id": at,
                "timestamp": now - 1000 + at % 900,
                "user_id": f"u{at % 97}",
                "terminal_id": f"t{at % 31}",
                "amount": at / 100,
            }
        ).encode()
        for at in range(first, last)
    ]


def _taken(out: str) -> tuple[int, int]:
    found = _LINE.search(out)
    assert found, out
    return int(found[1].replace(",", "")), int(found[2].replace(",", ""))
