"""Ingest of a topic: batches of messages into the event store, durably, before their offsets are committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from data.errors import StoreUnavailable
from data.event_store import EventStore
from data.feature_views.events.event import Event
from data.ingest.dead_letters import DeadLetter, DeadLetterFile
from data.ingest.event_tally import EventTally
from data.ingest.ingest_metrics import IngestMetrics
from data.ingest.message_parser import MessageParser, Poison
from data.ingest.paced_note import PacedNote
from data.online_store.left_out import LeftOutRows

if TYPE_CHECKING:
    from data.ingest.kafka_topic import KafkaTopic, TopicMessage

_BATCH = 5_000
_WAIT_S = 0.5
_RETRY_S = 0.5
Result = TypeVar("Result")


class Destination(NamedTuple):
    """Where messages go: the events of one source, and what is none."""

    source: str
    store: EventStore
    letters: DeadLetterFile


class TopicIngest:
    """Moves messages of a topic into the event store until it is stopped.

    Args:
        topic: the topic.
        parser: makes events of messages.
        destination: where they go.
        metrics: counts them.
        note: prints a line.
        stopped: returns whether to end after the batch under way.
    """

    def __init__(
        self,
        topic: KafkaTopic,
        parser: MessageParser,
        destination: Destination,
        metrics: IngestMetrics,
        note: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> None:
        self.tally = EventTally()
        self._topic, self._parser, self._to, self._metrics = topic, parser, destination, metrics
        self._waiting = PacedNote(note)
        self._stopped = stopped

    def run(self, advance: Callable[[int], None], *, until_end: bool = False) -> None:
        """Ingest until stopped, or up to where the topic ends now; `advance` hears of messages that are done.

        Raises:
            DataError: there is no such topic.
            StoreUnavailable: the store did not come back before it was stopped; what is not stored is not committed.
            StoreError: the store is damaged.
        """
        if not self._topic.wait(self._stopped):
            return
        if until_end:
            self._topic.mark_end()
        while not self._stopped():
            messages = self._topic.read(_BATCH, _WAIT_S)
            if messages:
                self._ingest(messages)
                advance(len(messages))
            self._metrics.lag(self._topic.lag())
            if until_end and self._topic.at_end():
                return

    def _ingest(self, messages: Sequence[TopicMessage]) -> None:
        now_us = time.time_ns() // 1000
        parsed = [self._parser.parse(each.value, now_us) for each in messages]
        events = [each for each in parsed if isinstance(each, Event)]
        letters = [
            self._letter(message, each.reason)
            for message, each in zip(messages, parsed, strict=True)
            if isinstance(each, Poison)
        ]
        outcomes = self._patiently(lambda: self._to.store.append(self._to.source, events)) if events else []
        if letters:
            self._patiently(lambda: self._to.letters.add(letters))
            names = tuple(f"partition {each.partition} offset {each.offset:,}" for each in letters[:3])
            self.tally.leave_out(f"set aside in {self._to.letters.path}", LeftOutRows(len(letters), names))
        self._topic.commit(messages)
        self.tally.read += len(messages)
        self.tally.stored(events, outcomes)
        self._metrics.stored(events, outcomes, len(letters), time.time_ns() // 1000)

    def _letter(self, message: TopicMessage, reason: str) -> DeadLetter:
        return DeadLetter(
            self._topic.address.topic,
            message.partition,
            message.offset,
            message.timestamp_ms,
            reason,
            message.value,
        )

    def _patiently(self, action: Callable[[], Result]) -> Result:
        """Do what needs the store, again while it is out of reach: nothing is read meanwhile, so nothing is lost."""
        while True:
            try:
                done = action()
            except StoreUnavailable as exc:
                if self._stopped():
                    raise
                self._waiting(f"{exc}; trying again")
                time.sleep(_RETRY_S)
            else:
                self._waiting.over("the store answers again")
                return done
