"""Card transactions as Parquet files, as many rows as are wanted."""

from __future__ import annotations

from pathlib import Path

from data.sources.atomic_output import write_table
from tests.support.training.models import card_table


def write_cards(folder: Path, rows: int, files: int) -> Path:
    """Write about `rows` transactions as Parquet files of the same number of rows, each with values of its own."""
    for number in range(files):
        write_table(card_table(-(-rows // files), seed=number), folder / f"{number:04d}.parquet")
    return folder
