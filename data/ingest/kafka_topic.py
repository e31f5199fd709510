"""A Kafka topic as one member of a consumer group reads it: messages in batches, offsets committed when they are done.

An offset is committed after what was made of its message is durable, never before. So whatever ends the process or
moves a partition to another member, a message may be read twice and none is lost; events that are stored twice are
one event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from data.errors import ConfigError, DataError, StoreUnavailable
from data.ingest.kafka_address import KafkaAddress
from data.ingest.paced_note import PacedNote

_ANSWER_S = 5.0
_PROBE_S = 2.0
_REFUSALS = {
    KafkaError._AUTHENTICATION: "RAYSCORE_KAFKA_USERNAME, the password and RAYSCORE_KAFKA_SASL_MECHANISM",
    KafkaError._SSL: "RAYSCORE_KAFKA_SECURITY_PROTOCOL and RAYSCORE_KAFKA_CA_FILE",
}
"""Errors of a connection that trying again does not mend, each with the settings to look at."""
_UNKNOWN_TOPIC = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)


class TopicMessage(NamedTuple):
    """One message as it was read."""

    partition: int
    offset: int
    timestamp_ms: int
    value: bytes | None


class KafkaTopic:
    """One member of a consumer group on one topic. Of one thread.

    Args:
        address: the topic.
        group: name of the consumer group; what it has committed is not read again.
        note: prints a line.
        security: options of the client for encryption and login.

    Raises:
        ConfigError: the client takes no such options.
    """

    def __init__(
        self,
        address: KafkaAddress,
        group: str,
        note: Callable[[str], None],
        security: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.address = address
        self.gone = 0
        """Messages that the topic dropped before the group had read them."""
        self._note = note
        self._trouble = PacedNote(note)
        self._suspect = False
        self._assigned: set[int] = set()
        self._next: dict[int, int] = {}
        self._uncommitted: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._refused: KafkaError | None = None
        try:
            self._consumer = Consumer(_configuration(address, group, self._failed) | {**security}, logger=_silent())
        except KafkaException as exc:
            raise ConfigError(f"{address}: {_words(exc)}; check the settings RAYSCORE_KAFKA_...") from exc

    def wait(self, stopped: Callable[[], bool]) -> bool:
        """Wait until the brokers answer, and join the group; returns False when stopped before.

        Raises:
            DataError: they have no such topic.
            ConfigError: they refuse the login, or cannot be trusted.
        """
        while not stopped():
            try:
                found = self._consumer.list_topics(timeout=_ANSWER_S).topics
            except KafkaException as exc:
                self._check_refused()
                self._say_gone(exc)
                continue
            if self.address.topic not in found:
                names = ", ".join(sorted(name for name in found if not name.startswith("__"))) or "none"
                raise DataError(f"{self.address}: there is no such topic; topics there: {names}")
            self._trouble.over(f"kafka {self.address.brokers} answers")
            topic = self.address.topic
            self._consumer.subscribe(
                [topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            return True
        return False

    def mark_end(self) -> None:
        """Remember where the topic ends now, for `at_end`.

        Raises:
            StoreUnavailable: the brokers do not answer.
        """
        try:
            partitions = self._consumer.list_topics(self.address.topic, _ANSWER_S).topics[self.address.topic].partitions
            spans = {each: self._consumer.get_watermark_offsets(self._at(each), _ANSWER_S) for each in partitions}
        except KafkaException as exc:
            raise StoreUnavailable(f"{self.address}: cannot be asked for its end: {_words(exc)}") from exc
        self._ends = {each: high for each, (low, high) in spans.items() if high > low}

    def at_end(self) -> bool:
        """Return whether the group has read up to the end that `mark_end` found."""
        left = [each for each, end in self._ends.items() if self._next.get(each, 0) < end]
        others = [each for each in left if each not in self._assigned]
        if others:
            with suppress(KafkaException):
                self._reach(self._consumer.committed([self._at(each) for each in others], _PROBE_S))
        return all(self._next.get(each, 0) >= self._ends[each] for each in left)

    def read(self, most: int, wait_s: float) -> list[TopicMessage]:
        """Return the messages that are there, at most `most`; waits `wait_s` seconds for the first of them."""
        first = self._consumer.poll(wait_s)
        if first is None:
            self._idle()
            return []
        found = [first, *self._consumer.consume(most - 1, 0)]
        return [message for each in found if (message := self._taken(each)) is not None]

    def commit(self, messages: Sequence[TopicMessage]) -> None:
        """Commit the offsets of messages that are done; what fails is tried again with the next, and when idle."""
        for each in messages:
            self._next[each.partition] = self._uncommitted[each.partition] = each.offset + 1
        self._commit()

    def lag(self) -> int:
        """Return how many messages of this member's partitions it has not done, as the brokers said last."""
        ends: dict[int, int] = {}
        for each in self._assigned:
            with suppress(KafkaException):
                ends[each] = self._consumer.get_watermark_offsets(self._at(each), cached=True)[1]
        return sum(max(0, end - self._next[each]) for each, end in ends.items() if each in self._next)

    def close(self) -> None:
        """Commit what is done and leave the group, so that others have its partitions at once."""
        if self._uncommitted:
            self._commit()
        self._consumer.close()

    def _at(self, partition: int, offset: int = 0) -> TopicPartition:
        return TopicPartition(self.address.topic, partition, offset)

    def _taken(self, message: Message) -> TopicMessage | None:
        error, partition, offset = message.error(), message.partition() or 0, message.offset() or 0
        if error is None:
            self._trouble.over(f"kafka {self.address.brokers} answers again")
            return TopicMessage(partition, offset, message.timestamp()[1], message.value())
        if error.code() == KafkaError._PARTITION_EOF:
            self._next[partition] = offset
        elif error.code() in _UNKNOWN_TOPIC:
            self._trouble(f"{self.address}: the topic is gone; waiting for it")
        else:
            self._trouble(f"{self.address}: {error.str()}; trying again")
        return None

    def _idle(self) -> None:
        if self._uncommitted:
            self._commit()
        if self._suspect and self._trouble.due:
            try:
                self._consumer.list_topics(self.address.topic, _PROBE_S)
            except KafkaException as exc:
                self._say_gone(exc)
            else:
                self._suspect = False
                self._trouble.over(f"kafka {self.address.brokers} answers again")

    def _commit(self) -> None:
        # Of those that are another member's by now it knows better.
        mine = {each: offset for each, offset in self._uncommitted.items() if each in self._assigned}
        try:
            done = (
                self._consumer.commit(offsets=[self._at(*each) for each in mine.items()], asynchronous=False)
                if mine
                else []
            )
        except KafkaException as exc:
            self._trouble(f"{self.address}: offsets are not committed yet: {_words(exc)}; trying again")
            return
        refused = [each.error for each in done or [] if each.error is not None]
        if refused:
            self._trouble(f"{self.address}: offsets are not committed yet: {refused[0].str()}; trying again")
            return
        self._uncommitted.clear()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        mine = [each.partition for each in partitions]
        self._assigned.update(mine)
        with suppress(KafkaException):
            self._reach(consumer.committed([self._at(each) for each in mine], _ANSWER_S))
            for each in mine:
                self._look_for_gone(each, consumer.get_watermark_offsets(self._at(each), _ANSWER_S)[0])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._uncommitted:
            self._commit()
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            self._assigned.discard(each.partition)
            self._uncommitted.pop(each.partition, None)

    def _reach(self, committed: Sequence[TopicPartition]) -> None:
        for each in committed:
            self._next[each.partition] = max(each.offset, 0)

    def _look_for_gone(self, partition: int, low: int) -> None:
        committed = self._next.get(partition, 0)
        # At 0 the group has read nothing: what was dropped before is not its loss.
        if 0 < committed < low:
            self.gone += low - committed
            self._note(f"{self.address}: partition {partition}: {low - committed:,} messages were dropped unread")

    def _failed(self, error: KafkaError) -> None:
        self._suspect = True
        if error.code() in _REFUSALS:
            self._refused = error

    def _check_refused(self) -> None:
        self._consumer.poll(0)  # The client says only here why brokers did not answer.
        if self._refused is not None:
            reason = " ".join(self._refused.str().split())
            raise ConfigError(f"{self.address}: no connection: {reason}; check {_REFUSALS[self._refused.code()]}")

    def _say_gone(self, exc: KafkaException) -> None:
        self._trouble(f"kafka {self.address.brokers} does not answer ({_words(exc)}); trying again")


def _configuration(address: KafkaAddress, group: str, failed: Callable[[KafkaError], None]) -> dict[str, Any]:
    return {
        "bootstrap.servers": address.brokers,
        "client.id": "rayscore-ingest",
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
        # How long the partitions of a member that was killed wait for another.
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 2_000,
        "socket.timeout.ms": 10_000,
        "reconnect.backoff.max.ms": 2_000,
        "error_cb": failed,
    }


def _silent() -> logging.Logger:
    """The client's own lines, several for each broker and try, stand in no form that a user can act on."""
    logger = logging.getLogger(f"{__name__}.client")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    return logger


def _words(exc: KafkaException) -> str:
    error = exc.args[0] if exc.args else exc
    return " ".join(str(error.str() if isinstance(error, KafkaError) else error).split())
