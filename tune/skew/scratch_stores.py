"""The scratch stores of a proof in time, as the command writes them: emptied, then filled as replay time passes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress

import numpy as np
import pyarrow as pa

from data.errors import StoreError
from data.event_store import EventStore, open_events
from data.feature_views.events.event_columns import EventColumns
from data.online_store import OnlineStore, StoredRow, open_store
from data.online_store.materialization import pack_table
from data.schema.scratch_name import scratch_name
from data.schema.use_case import UseCase
from data.settings import Settings
from data.transform.event_time import event_us
from data.transform.table_columns import named_column
from tune.registry.bundle import BundleManifest
from tune.skew.proof_lock import proof_lock

_AT_ONCE = 50_000


class ScratchStores:
    """The scratch stores that a model needs, empty to begin with, for one proof at a time; close them after use.

    Args:
        settings: those of the service.
        use_case: what is declared.
        manifest: of the model.

    Raises:
        StoreError: another proof of the use case is under way, or a store cannot be opened or emptied.
    """

    def __init__(self, settings: Settings, use_case: UseCase, manifest: BundleManifest) -> None:
        self._use_case = use_case
        self._events: EventStore | None = None
        self._view: OnlineStore | None = None
        self._lock = ExitStack()
        self._lock.enter_context(proof_lock(settings, manifest.name))
        try:
            if manifest.windows:
                keep_us = max(window.reach_us for window in manifest.windows)
                name = scratch_name(manifest.name)
                self._events = open_events(settings, name, manifest.events, keep_us=keep_us, create=True)
            if manifest.schema_.online:
                self._view = open_store(settings, scratch_name(manifest.view), create=True)
            self._empty()
        except BaseException:
            self._shut()
            raise

    def append(self, source: str, events: EventColumns, numbers: np.ndarray) -> None:
        """Store some events of a source, in the order of their numbers.

        Raises:
            StoreError: the store does not take them.
        """
        if self._events is None:
            return
        for start in range(0, len(numbers), _AT_ONCE):
            part = numbers[start : start + _AT_ONCE]
            self._events.append(source, events.taken(part))

    def materialize(self, rows: pa.Table, after_us: int | None, until_us: int) -> None:
        """Store the latest row of each entity that lies in a span of time.

        Args:
            rows: all rows, in the order in which a later one of the same time counts.
            after_us: rows of this time and before are there already; None for none.
            until_us: the last time that is taken.

        Raises:
            StoreError: the store does not take them.
        """
        if self._view is None:
            return
        times = event_us(named_column(rows, self._use_case.event_time or ""), self._use_case.event_time or "")
        held = times <= until_us if after_us is None else (times > after_us) & (times <= until_us)
        part = rows.filter(pa.array(held))
        if part.num_rows:
            packed = pack_table(part, self._use_case, until_us, str).table
            self._view.put_many(_stored_rows(packed))

    def close(self) -> None:
        """Empty the stores once more, so that nothing stays of the proof, and close them."""
        try:
            # What cannot be emptied now is when the next proof begins.
            with suppress(StoreError):
                self._empty()
        finally:
            self._shut()

    def _empty(self) -> None:
        for store in (self._events, self._view):
            if store is not None:
                store.empty()

    def _shut(self) -> None:
        with self._lock:
            for store in (self._events, self._view):
                if store is not None:
                    store.close()


def _stored_rows(packed: pa.Table) -> Sequence[StoredRow]:
    columns = (packed.column(name).to_pylist() for name in ("entity", "event_us", "payload"))
    return list(map(StoredRow._make, zip(*columns, strict=True)))
