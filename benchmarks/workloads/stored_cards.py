"""Card transactions with features that come from the online store: their use case, and a table of any size."""

from __future__ import annotations

from pathlib import Path

from data.schema.use_case import UseCase, load_use_case
from data.sources.atomic_output import write_table
from tests.support.training.models import card_table

STORED_CARDS = Path(__file__).with_suffix(".toml")
"""File of the use case."""


def stored_cards() -> UseCase:
    """Return the use case."""
    return load_use_case(STORED_CARDS)


def write(folder: Path, rows: int, files: int) -> Path:
    """Write about `rows` transactions as Parquet files of the same number of rows, each with values of its own."""
    for number in range(files):
        write_table(card_table(-(-rows // files), seed=number), folder / f"{number:04d}.parquet")
    return folder
