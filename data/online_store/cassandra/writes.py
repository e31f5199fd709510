"""Cassandra writes: rows `USING TIMESTAMP` their event time, after a look at what the cluster holds of their entities.

The timestamp makes the cluster itself keep the latest row whatever the order of arrival, in hints and repairs too. Of
rows with one event time it keeps the one written last, see `data.online_store.cassandra.write_stamp`. For that each
row is given its whole time to live from the moment of writing: a correction must not expire before what it corrects.
Readers enforce the time to live from the event time.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cassandra.query import BatchStatement, BatchType, BoundStatement

from data.online_store import Outcome, StoredRow, outcome
from data.online_store.cassandra.async_bridge import StatementWindow
from data.online_store.cassandra.driver import passing, translated
from data.online_store.cassandra.token_routing import TokenReplicas
from data.online_store.cassandra.write_stamp import WriteClock, payload_of

if TYPE_CHECKING:
    from cassandra.cluster import Session
    from cassandra.query import PreparedStatement, Statement

log = logging.getLogger(__name__)

_ROWS_A_BATCH = 10  # the server warns of batches that span more partitions
_KEYS_A_QUERY = 64
_UNDER_WAY = 64
_ATTEMPTS = 5
_LONGEST_TTL_S = 630_720_000  # 20 years: Cassandra refuses a longer TTL
_LATEST_EXPIRY_S = 2_147_400_000  # in January 2038: no later one fits the files that it writes by default
_CLOCK = WriteClock()


class WriteStatements(NamedTuple):
    """The prepared statements of a writer."""

    look: PreparedStatement
    """SELECT of (entity, payload, event time, seconds left) with the parameters (entities, view)."""
    write: PreparedStatement
    """INSERT with the parameters (entity, view, payload, event time, time to live in seconds)."""


class _Held(NamedTuple):
    """What the cluster holds of an entity: its row, and the seconds until it expires; None for never."""

    row: StoredRow
    left_s: int | None


class Writer:
    """Writes rows of one view. Blocks its caller; thread-safe.

    Args:
        session: a connected driver session.
        statements: prepared by that session.
        view: name of the feature view.
        replicas: which nodes own a key.
        ttl_seconds: time to live of a row, in seconds; None for ever.
        where: the cluster, for messages.
    """

    def __init__(
        self,
        session: Session,
        statements: WriteStatements,
        view: str,
        replicas: TokenReplicas,
        ttl_seconds: int | None,
        where: str,
    ) -> None:
        self._session = session
        self._statements = statements
        self._view = view
        self._replicas = replicas
        self._ttl_seconds = ttl_seconds
        self._where = where

    def put(self, rows: Sequence[StoredRow]) -> list[Outcome]:
        """Write those rows that change the store, and return what became of each, in order.

        Raises:
            StoreUnavailable: statements went on failing.
            StoreError: the cluster answered with an error.
        """
        now_us = time.time_ns() // 1000
        oldest_us = None if self._ttl_seconds is None else now_us - self._ttl_seconds * 1_000_000
        live = [row for row in rows if oldest_us is None or row.event_us >= oldest_us]
        held = self._look(list(dict.fromkeys(row.entity for row in live)))
        latest = {entity: each.row for entity, each in held.items()}
        outcomes = []
        for row in live:
            outcomes.append(outcome(row, latest.get(row.entity)))
            if outcomes[-1] in (Outcome.WRITTEN, Outcome.CORRECTED):
                latest[row.entity] = row
        self._send(list(self._batches(self._changed(latest, held, now_us))), lambda _: None)
        if len(live) == len(rows):
            return outcomes
        decided = iter(outcomes)
        return [Outcome.EXPIRED if row.event_us < (oldest_us or 0) else next(decided) for row in rows]

    def _look(self, entities: Sequence[str]) -> dict[str, _Held]:
        """Return what the cluster holds of entities, at the consistency of writes."""
        held: dict[str, _Held] = {}

        def received(found: Iterable[tuple[str, bytes, int, int | None]]) -> None:
            for entity, stored, event_us, left_s in found:
                held[entity] = _Held(StoredRow(entity, event_us, payload_of(stored)), left_s)

        look, view = self._statements.look, self._view
        parts = self._owned_parts(entities, _KEYS_A_QUERY)
        self._send([_OwnersRead(look, part, view) for part in parts], received)
        return held

    def _changed(
        self, latest: Mapping[str, StoredRow], held: Mapping[str, _Held], now_us: int
    ) -> dict[str, tuple[StoredRow, int]]:
        """Return the rows to write with their time to live in seconds (0: for ever), by entity.

        A row that is there already is among them when it would be dropped early: written under a shorter time to live.
        """
        changed: dict[str, tuple[StoredRow, int]] = {}
        for entity, row in latest.items():
            before = held.get(entity)
            if before is None or row is not before.row or self._dropped_early(before, now_us):
                changed[entity] = row, self._ttl(row, before, now_us)
        return changed

    def _batches(self, rows: Mapping[str, tuple[StoredRow, int]]) -> Iterator[BatchStatement]:
        """Yield batches of rows that the same replica owns.

        A batch over the partitions of several nodes would have one of them forward the others' rows.
        """
        stamp = _CLOCK.stamp()
        write, view = self._statements.write, self._view
        for part in self._owned_parts(list(rows), _ROWS_A_BATCH):
            batch = BatchStatement(BatchType.UNLOGGED)
            batch.is_idempotent = True
            for entity in part:
                row, ttl_s = rows[entity]
                batch.add(write.bind((entity, view, stamp + row.payload, row.event_us, ttl_s)))
            yield batch

    def _owned_parts(self, entities: Sequence[str], size: int) -> Iterator[list[str]]:
        for owned in self._replicas.grouped(entities).values():
            for start in range(0, len(owned), size):
                yield owned[start : start + size]

    def _ttl(self, row: StoredRow, before: _Held | None, now_us: int) -> int:
        """Return the time to live of a row that is written now, in seconds; 0 for ever."""
        left_s = before.left_s if before is not None else None
        if self._ttl_seconds is None:
            # Cassandra lets a cell that expires win over one that does not.
            return 0 if left_s is None else max(longest_ttl(now_us), left_s)
        ahead_s = max(row.event_us - now_us, 0) // 1_000_000
        return max(min(self._ttl_seconds + ahead_s, longest_ttl(now_us)), left_s or 0)

    def _dropped_early(self, before: _Held, now_us: int) -> bool:
        """Return whether the cluster will drop a row before its time."""
        if before.left_s is None:
            return False
        longest = longest_ttl(now_us)
        if self._ttl_seconds is None:
            return before.left_s < longest // 2
        needed_us = before.row.event_us + self._ttl_seconds * 1_000_000 - now_us
        return before.left_s < min(needed_us // 1_000_000, longest // 2)

    def _send(self, statements: list[Statement], received: Callable[[Iterable[Any]], None]) -> None:
        send_all(self._session, self._where, statements, received)


def send_all(
    session: Session, where: str, statements: list[Statement], received: Callable[[Iterable[Any]], None]
) -> None:
    """Send statements until each has an answer; failed ones are repeated, with fewer at once. Blocks.

    Args:
        session: a connected driver session.
        where: the cluster, for messages.
        statements: idempotent statements.
        received: called with the rows of each answer, from the driver's thread.

    Raises:
        StoreUnavailable: statements went on failing.
        StoreError: the cluster answered with an error.
    """
    attempt = 0
    while statements:
        window = max(_UNDER_WAY >> attempt, 1)
        unanswered, error = StatementWindow(session, window, received).send(statements)
        if error is None:
            return
        # Progress of at least a window starts the attempts anew: only a standstill ends the write.
        attempt = attempt + 1 if len(statements) - len(unanswered) < window else 1
        if attempt >= _ATTEMPTS or not passing(error):
            raise translated("write", where, error) from error
        log.warning("%s: %d statements wait for attempt %d: %s", where, len(unanswered), attempt + 1, error)
        statements = unanswered
        time.sleep(random.uniform(0.5, 1.0) * 0.1 * 2**attempt)


def longest_ttl(now_us: int) -> int:
    """Return the longest time to live that Cassandra takes now, in seconds."""
    return max(min(_LONGEST_TTL_S, _LATEST_EXPIRY_S - now_us // 1_000_000), 1)


class _OwnersRead(BoundStatement):
    """A query for keys of one owner that is routed like a query for the first: the driver itself routes only those."""

    def __init__(self, prepared: PreparedStatement, keys: list[str], view: str) -> None:
        super().__init__(prepared)
        self.bind((keys, view))
        self._first = keys[0].encode()

    @property
    def routing_key(self) -> bytes:
        """The partition key by which the driver chooses the node."""
        return self._first
