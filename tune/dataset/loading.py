"""Loading a table for training: into memory when it is small, streamed to shards on disk when it is large."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from data.cli.terminal import note, note_all
from data.distributed.ray_cluster import cluster
from data.distributed.runner import cluster_for
from data.errors import ConfigError, DataError
from data.feature_views.events.event_tables import (
    EventFiles,
    left_out_lines,
    open_events,
    read_events,
    said_of,
)
from data.feature_views.events.table_mark import holds_stored, marked
from data.schema.events.event_paths import NOTHING_BESIDE, EventPaths
from data.schema.use_case import UseCase
from data.settings import Settings
from data.sources.filesystems import absolute, child, named, url
from data.sources.parquet import ParquetSource, open_source
from data.validation.column_types import check_learned
from data.validation.event_columns import check_event_files
from tune.dataset.encoded_examples import PreparedDataset, prepare
from tune.dataset.shards import discard
from tune.dataset.streaming import prepare_streaming, rows_in_memory
from tune.dataset.training_table import TrainingTable, load_training_table
from tune.dataset.written_features import WrittenFeatures, written_features


@contextmanager
def prepared_table(
    path: Path, use_case: UseCase, settings: Settings, events: EventPaths = NOTHING_BESIDE
) -> Iterator[tuple[TrainingTable, PreparedDataset]]:
    """Yield the table at `path`, and the same split and encoded; what is written of a large one is removed at the end.

    Args:
        path: the table.
        use_case: what is declared.
        settings: how much memory there is, and where shards go.
        events: where the events are that windows need beside the table.

    Raises:
        ConfigError: as `open_events`, or a history is of no use.
        DataError: as `check_learned`, `check_event_files`, `load_training_table`, `prepare`, `written_features` and
            `prepare_streaming`; or a large table holds a part of its features only, or is one of a ranking.
    """
    parquet = open_source(absolute(path))
    check_learned(parquet, use_case)
    holds_windows = marked(parquet.schema, use_case)
    joined = holds_stored(parquet.schema, use_case, named(parquet.path))
    files = open_events(events, use_case, holds_windows)
    check_event_files(files, use_case)
    in_time = holds_windows and (joined or not use_case.joins_stored)
    if in_time and files.history is not None:
        raise ConfigError("--history: the table holds its features already; leave it out")
    fits = rows_in_memory(_width(use_case), settings.train_memory_mb)
    _refuse_lists(parquet, use_case, settings, fits)
    shards = child(absolute(settings.shards_dir or settings.var_dir / "shards"), use_case.name)
    if parquet.rows + files.rows <= fits:
        # Whether a cluster answers is found out before minutes of work, and after what takes seconds.
        with cluster_for(parquet.rows + files.rows):
            yield _in_memory(parquet, files, use_case, holds_windows, joined)
    elif in_time or not (use_case.windows or use_case.joins_stored):
        with cluster(), _streamed(parquet, use_case, shards, settings, fits) as (source, prepared):
            yield source._replace(holds_stored=joined), prepared
    else:
        _refuse_part(parquet, holds_windows, joined)
        with (
            cluster(),
            _computed(parquet, files, use_case, settings, fits) as made,
            _streamed(made.table, use_case, shards, settings, fits) as (source, prepared),
        ):
            yield _told(source, parquet, made), prepared
    note_all([*parquet.report, *said_of(files)])


def _in_memory(
    parquet: ParquetSource, files: EventFiles, use_case: UseCase, holds_windows: bool, joined: bool
) -> tuple[TrainingTable, PreparedDataset]:
    source = load_training_table(parquet.path, use_case, read_events(files, use_case), holds_windows, joined)
    note_all(left_out_lines(source.left_out))
    return source, prepare(source, use_case)


def _computed(
    parquet: ParquetSource, files: EventFiles, use_case: UseCase, settings: Settings, fits: int
) -> AbstractContextManager[WrittenFeatures]:
    """Say where the features of a table are computed, and return what yields the table with them."""
    shared = settings.shards_dir if settings.shards_dir is not None and url(settings.shards_dir) is None else None
    place = child(absolute(shared or settings.var_dir / "shards"), use_case.name)
    note(
        f"{_too_many(parquet.rows + files.rows, 'rows and events', settings, fits)}: Ray Data computes the features of "
        f"the rows, beside {named(place)}"
    )
    return written_features(parquet, files, use_case, place)


def _told(source: TrainingTable, parquet: ParquetSource, made: WrittenFeatures) -> TrainingTable:
    """Return a table with what is said of the one that the user knows: what was made of it is gone in the end."""
    return source._replace(path=parquet.path, fingerprint=made.fingerprint, holds_stored=False, left_out=made.left_out)


@contextmanager
def _streamed(
    table: ParquetSource, use_case: UseCase, shards: Path, settings: Settings, fits: int
) -> Iterator[tuple[TrainingTable, PreparedDataset]]:
    """Yield a table that needs no other rows, as it is in memory where it fits, else as a sample of it and shards."""
    if table.rows <= fits:
        yield _in_memory(table, EventFiles(None, {}), use_case, True, use_case.joins_stored)
        return
    if use_case.texts:
        raise DataError(
            f"{named(table.path)}: {_too_many(table.rows, 'rows', settings, fits)}, and a text feature "
            f"({', '.join(use_case.texts)}) needs the whole table in memory: raise RAYSCORE_TRAIN_MEMORY_MB, or "
            "train on fewer rows"
        )
    note(
        f"{_too_many(table.rows, 'rows', settings, fits)}: streamed to {named(shards)}; the search sees a sample of "
        f"{fits:,}, the final fits every row"
    )
    if use_case.split.folds not in (None, 1):
        note(f"split.folds = {use_case.split.folds} is not used: a table that does not fit is searched by one split")
    try:
        yield prepare_streaming(table, use_case, shards, fits)
    finally:
        discard(shards)


def _too_many(rows: int, what: str, settings: Settings, fits: int) -> str:
    return (
        f"{rows:,} {what} are more than the {fits:,} that RAYSCORE_TRAIN_MEMORY_MB={settings.train_memory_mb} "
        "allows in memory"
    )


def _width(use_case: UseCase) -> int:
    """How many columns a table has in memory: those that are read, windows and expressions."""
    return len(use_case.columns) + len(use_case.schema_.windows) + len(use_case.schema_.expressions)


def _refuse_lists(parquet: ParquetSource, use_case: UseCase, settings: Settings, fits: int) -> None:
    """Refuse a ranking that does not fit into memory: pieces of the table would divide its lists."""
    if use_case.task.list_column is not None and parquet.rows > fits:
        needed = math.ceil(parquet.rows / fits * settings.train_memory_mb)
        raise DataError(
            f"{named(parquet.path)}: {_too_many(parquet.rows, 'rows', settings, fits)}, and a ranking learns from "
            f"whole lists in memory: raise RAYSCORE_TRAIN_MEMORY_MB to {needed:,}, or give fewer lists"
        )


def _refuse_part(parquet: ParquetSource, holds_windows: bool, joined: bool) -> None:
    """Refuse a table that holds its windows or its stored values: the other would be made of what is there no more."""
    if holds_windows or joined:
        parts = ["its windows", "what the store would have held"]
        held, lacking = parts if holds_windows else reversed(parts)
        raise DataError(
            f"{named(parquet.path)}: holds {held}, but not {lacking}; make it again from the table without either "
            "(rayscore features IN OUT)"
        )
