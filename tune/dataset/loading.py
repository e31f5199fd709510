"""Loading a table for training: into memory when it is small, streamed to shards on disk when it is large."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.cli.terminal import note, note_all
from data.errors import DataError
from data.feature_views.event_tables import (
    EventFiles,
    left_out_lines,
    open_events,
    read_events,
    said_of,
    too_large,
)
from data.feature_views.table_mark import holds_stored, marked
from data.schema.event_paths import NOTHING_BESIDE, EventPaths
from data.schema.use_case import UseCase
from data.settings import Settings
from data.sources.filesystems import absolute, child, named
from data.sources.parquet import ParquetSource, open_source
from data.validation.column_types import check_learned
from data.validation.event_columns import check_event_files
from tune.dataset.encoded_examples import PreparedDataset, prepare
from tune.dataset.shards import discard
from tune.dataset.streaming import prepare_streaming, rows_in_memory
from tune.dataset.training_table import TrainingTable, load_training_table


@contextmanager
def prepared_table(
    path: Path, use_case: UseCase, settings: Settings, events: EventPaths = NOTHING_BESIDE
) -> Iterator[tuple[TrainingTable, PreparedDataset]]:
    """Yield the table at `path`, and the same split and encoded; the shards of a large one are removed at the end.

    Args:
        path: the table.
        use_case: what is declared.
        settings: how much memory there is, and where shards go.
        events: where the events are that windows need beside the table.

    Raises:
        ConfigError: as `open_events`.
        DataError: as `check_learned`, `check_event_files`, `load_training_table`, `prepare` and `prepare_streaming`;
            or what is computed from many rows does not fit into memory.
    """
    parquet = open_source(absolute(path))
    check_learned(parquet, use_case)
    holds_windows = marked(parquet.schema, use_case)
    joined = holds_stored(parquet.schema, use_case, named(parquet.path))
    files = open_events(events, use_case, holds_windows)
    check_event_files(files, use_case)
    fits = rows_in_memory(_width(use_case), settings.train_memory_mb)
    if parquet.rows + files.rows <= fits:
        source = load_training_table(path, use_case, read_events(files, use_case), holds_windows, joined)
        note_all(left_out_lines(source.left_out))
        yield source, prepare(source, use_case)
        note_all([*parquet.report, *said_of(files)])
        return
    in_time = holds_windows and (joined or not use_case.joins_stored)
    _refuse_unless_streamed(parquet, files, use_case, in_time, fits)
    shards = child(absolute(settings.shards_dir or settings.var_dir / "shards"), use_case.name)
    note(
        f"{parquet.rows:,} rows are more than the {fits:,} that RAYSCORE_TRAIN_MEMORY_MB={settings.train_memory_mb} "
        f"allows in memory: streamed to {named(shards)}; the search sees a sample of {fits:,}, the final fit every "
        "train row"
    )
    try:
        yield prepare_streaming(parquet, use_case, shards, fits)
        note_all(parquet.report)
    finally:
        discard(shards)


def _width(use_case: UseCase) -> int:
    """How many columns a table has in memory: those that are read, windows and expressions."""
    return len(use_case.columns) + len(use_case.schema_.windows) + len(use_case.schema_.expressions)


def _refuse_unless_streamed(
    parquet: ParquetSource, files: EventFiles, use_case: UseCase, in_time: bool, fits: int
) -> None:
    """Refuse a table that is too large for memory while its features need other rows than the row itself."""
    if not in_time and (use_case.windows or use_case.joins_stored):
        raise DataError(too_large(parquet.path, parquet.rows + files.rows, fits, "tune --data"))
