"""The features of a table too large for memory, written to disk for as long as a search needs them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from data.cli.terminal import note_all, progress
from data.distributed.runner import runner
from data.errors import DataError
from data.feature_views.events.event_tables import EventFiles, left_out_lines
from data.feature_views.spread.plan import SpreadPlan
from data.feature_views.spread.written_table import read_pieces, write_spread
from data.schema.use_case import UseCase
from data.sources.filesystems import base_name, named
from data.sources.locked_folder import scratch_folder
from data.sources.parquet import ParquetSource, open_source
from tune.dataset.source_fingerprint import source_fingerprint


class WrittenFeatures(NamedTuple):
    """A table with all that its rows would have been served with."""

    table: ParquetSource
    fingerprint: str
    """Hash (16 hex digits) of what it was made of, as `load_training_table` gives it."""
    left_out: Mapping[str, Counter[str]]
    """By source of events: rows that are no event, by reason."""


@contextmanager
def written_features(
    table: ParquetSource, files: EventFiles, use_case: UseCase, beside: Path
) -> Iterator[WrittenFeatures]:
    """Yield a table with all that its rows would have been served with; it is removed at the end of the block.

    Args:
        table: rows with the columns that the use case declares.
        files: the events beside it.
        use_case: what is computed.
        beside: absolute path on a disk that all nodes share; what is written lies in a hidden folder beside it.

    Raises:
        ConfigError: RAY_ADDRESS names a cluster that does not answer.
        DataError: as `write_spread`, or another run writes there.
    """
    with scratch_folder(beside.with_name(f"{beside.name}.features"), beside) as folder:
        out = folder / f"{base_name(table.path).removesuffix('.parquet')}.parquet"
        exchanged = folder / "exchanged"
        exchanged.mkdir()
        plan = SpreadPlan(use_case, table, files, exchanged)
        with runner(read_pieces(table, files)) as run_steps:
            fingerprint = source_fingerprint(table, files, use_case, run_steps)
            found = write_spread(plan, out, run_steps, progress, told_as=table.path)
        # Not at the end: it is as large as the table.
        shutil.rmtree(exchanged)
        note_all(left_out_lines(found.left_out))
        try:
            yield WrittenFeatures(open_source(out), fingerprint, found.left_out)
        except DataError as exc:
            if named(out) not in str(exc):
                raise
            # By the name that the user knows.
            raise DataError(str(exc).replace(named(out), named(table.path))) from exc
