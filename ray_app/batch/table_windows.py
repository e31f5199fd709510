"""The window features of a table that is scored, computed once over all of its rows and the events beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.cli.terminal import note
from data.errors import ConfigError, naming
from data.feature_views.events.event_tables import EventFiles, open_events, read_events
from data.feature_views.events.table_mark import marked
from data.feature_views.point_in_time import with_windows
from data.feature_views.spread.written_table import read_pieces
from data.schema.events.event_paths import EventPaths
from data.schema.use_case import UseCase
from data.settings import Settings
from data.sources.filesystems import named
from data.sources.parquet import ParquetSource, read_source
from data.transform.encoding import Transform
from data.validation.event_columns import check_event_files, check_own_events
from ray_app.batch.refused_rows import refusals
from ray_app.batch.written_windows import OpenScratch, WindowInputs, WrittenWindows, with_label, write_windows
from tune.registry.bundle import BundleManifest

_NO_FILES = EventFiles(None, {})
_BYTES_A_VALUE = 64
"""What a value of a table takes in memory while its windows are computed."""


class HeldWindows(NamedTuple):
    """The windows of all n rows of a table, null in refused ones, in memory."""

    table: pa.Table
    left_out: Mapping[str, Counter[str]]
    """By source of events: rows that are no event, by reason."""

    def of(self, first: int, refused: np.ndarray) -> pa.Table:
        """Return the windows of the rows from `first` on that are not `refused`, bool of shape (n,)."""
        return self.table.slice(first, len(refused)).filter(pa.array(~refused))


class ScoredTable(NamedTuple):
    """A table that is to be scored, and what its windows need beside it."""

    source: ParquetSource
    events: EventPaths
    """Earlier rows of the table, and events of other sources."""
    scratch: OpenScratch
    """Opens what the windows of a table too large for memory need until it is scored."""


class TableWindows(NamedTuple):
    """What scoring a table takes of windows."""

    columns: list[str]
    """The columns of the table that are read: those that are scored, and those that its windows are made of."""
    files: EventFiles
    """The events beside the table."""
    computed: HeldWindows | WrittenWindows | None = None
    """The windows of the rows; None where nothing is to be computed."""


def table_windows(table: ScoredTable, scored: list[str], manifest: BundleManifest, settings: Settings) -> TableWindows:
    """Compute the windows of all rows of a table that HTTP would not refuse; a refused row is no event.

    Args:
        table: the table, of n rows.
        scored: columns of the table that are scored.
        manifest: of the model.
        settings: how much memory this may take.

    Raises:
        ConfigError: events are not given, or are not needed.
        DataError: a table is broken or lacks a column, or the folder cannot be written.
    """
    source, events = table.source, table.events
    if not manifest.schema_.windows:
        if events.history is not None or events.others:
            raise ConfigError("--history and --events: the model has no windows; leave them out")
        return TableWindows(scored, _NO_FILES)
    use_case = windows_alone(manifest)
    held = marked(source.schema, use_case)
    files = open_events(events, use_case, held)
    if held:
        return TableWindows(_each_once([*scored, *use_case.features]), files)
    check_own_events(source, use_case, {manifest.label} - set(source.schema.names))
    check_event_files(files, use_case)
    columns = _each_once([*scored, *_event_columns(source, manifest, use_case)])
    given = WindowInputs(source, columns, files, manifest, use_case)
    return TableWindows(columns, files, _computed(given, settings, table.scratch))


def _computed(given: WindowInputs, settings: Settings, scratch: OpenScratch) -> HeldWindows | WrittenWindows:
    width = len(given.columns) + len(given.use_case.windows)
    fits = settings.train_memory_mb * 2**20 // (_BYTES_A_VALUE * width)
    if given.rows <= fits:
        return _in_memory(given)
    note(
        f"{given.rows:,} rows and events are more than the {fits:,} that RAYSCORE_TRAIN_MEMORY_MB="
        f"{settings.train_memory_mb} allows in memory: Ray Data computes the windows of the rows"
    )
    return write_windows(given, scratch(read_pieces(given.source, given.files)))


def windows_alone(manifest: BundleManifest) -> UseCase:
    """Return what a model's windows are computed by, as a use case of these features and no others."""
    return UseCase(
        name=manifest.name,
        label=manifest.label,
        key=manifest.key,
        event_time=manifest.event_time,
        events=manifest.events,
        features={feature.name: feature for feature in manifest.schema_.windows},
    )


def _event_columns(source: ParquetSource, manifest: BundleManifest, use_case: UseCase) -> list[str]:
    columns = [name for name in use_case.columns if name != manifest.label]
    source.require(columns)
    # A table that is to be scored has no label yet, but for events that are known already.
    reads = any(manifest.label in each.values for each in use_case.events.values() if each.own)
    return [*columns, *([manifest.label] if reads and manifest.label in source.schema.names else [])]


def _in_memory(given: WindowInputs) -> HeldWindows:
    source, manifest, use_case = given.source, given.manifest, given.use_case
    table, events = read_source(source, given.columns), read_events(given.files, use_case)
    with naming(named(source.path)):
        taken = np.flatnonzero(~refusals(table, manifest, Transform(manifest.schema_)).refused)
        kept = with_label(table.take(pa.array(taken)), manifest.label)
        found, left_out = with_windows(kept, use_case, events.history, events.others)
    return HeldWindows(_spread(found.select(list(use_case.features)), taken, source.rows), left_out)


def _each_once(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _spread(values: pa.Table, taken: np.ndarray, rows: int) -> pa.Table:
    """Return a table of `rows` rows, of which those with the numbers `taken` are the given ones; the others null."""
    if len(taken) == rows:
        return values
    places = np.full(rows, -1)
    places[taken] = np.arange(len(taken))
    return values.take(pa.array(places, mask=places < 0))
