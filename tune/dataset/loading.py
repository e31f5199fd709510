"""Loading a table for training: into memory when it is small, streamed to shards on disk when it is large."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.cli.terminal import note, note_all
from data.schema.use_case import UseCase
from data.settings import Settings
from data.sources.filesystems import absolute, child, named
from data.sources.parquet import open_source
from data.validation.column_types import check_learned
from tune.dataset.encoded_examples import PreparedDataset, prepare
from tune.dataset.shards import discard
from tune.dataset.streaming import prepare_streaming, rows_in_memory
from tune.dataset.training_table import TrainingTable, load_training_table


@contextmanager
def prepared_table(
    path: Path, use_case: UseCase, settings: Settings
) -> Iterator[tuple[TrainingTable, PreparedDataset]]:
    """Yield the table at `path`, and the same split and encoded; the shards of a large one are removed at the end.

    Raises:
        DataError: as `check_learned`, `load_training_table`, `prepare` and `prepare_streaming`.
    """
    parquet = open_source(absolute(path))
    check_learned(parquet, use_case)
    fits = rows_in_memory(len(use_case.columns), settings.train_memory_mb)
    if parquet.rows <= fits:
        source = load_training_table(path, use_case)
        yield source, prepare(source, use_case)
        note_all(parquet.report)
        return
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
