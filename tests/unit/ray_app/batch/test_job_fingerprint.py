"""When two scoring jobs are the same."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data.errors import DataError
from data.schema.outputs.binary_output import BinaryOutput
from data.settings import Settings
from data.sources.parquet import open_source
from ray_app.batch.scoring import plan
from tests.support.training.models import card_bundle, card_table, write_card_table
from tests.support.training.scored_tables import scored_here
from tune.registry.bundle import Bundle


def fingerprint(path: Path, bundle: Bundle | None = None, version: str = "1", carry: str = "keys") -> str:
    """The fingerprint of the job that scores the file."""
    settings, table = Settings(sqlite_file=path.with_name("online.db")), scored_here(open_source(path), path.parent)
    return plan(settings, bundle or card_bundle(), version, table, path.parent, carry).fingerprint


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table to score."""
    return write_card_table(tmp_path / "in.parquet", 200)


def test_same_job_has_the_same_fingerprint(table: Path):
    """Asked again, with the bundle loaded again, it is the same job."""
    assert fingerprint(table) == fingerprint(table, Bundle.from_bytes(card_bundle().to_bytes()))


def test_another_model_version_or_choice_of_columns_is_another_job(table: Path):
    """Threshold, version and the columns carried are part of what a part holds."""
    whole = card_bundle()
    manifest = whole.manifest.model_copy(update={"output": BinaryOutput(threshold=0.123)})
    other = Bundle(manifest, whole.onnx, whole.booster, whole.measured, whole.card)
    found = {
        fingerprint(table),
        fingerprint(table, other),
        fingerprint(table, version="2"),
        fingerprint(table, carry="all"),
    }
    assert len(found) == 4


def test_another_store_is_another_job(table: Path, tmp_path: Path):
    """A model with online features scores anew when another store is named."""
    source = scored_here(open_source(table), tmp_path)
    stores = (Settings(sqlite_file=tmp_path / name) for name in ("a.db", "b.db"))
    assert len({plan(settings, card_bundle(), "1", source, tmp_path).fingerprint for settings in stores}) == 2


def test_changed_table_is_another_job(table: Path):
    """Other values are noticed by the footer where the time of change is the same, and a later time by itself."""
    before, status = fingerprint(table), table.stat()
    pq.write_table(card_table(200, seed=8), table, compression="zstd")
    os.utime(table, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = fingerprint(table)
    os.utime(table, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert len({before, changed, fingerprint(table)}) == 3


def test_table_that_goes_away_is_named(table: Path):
    """A file that is removed while the job is planned is an error that names it."""
    source = scored_here(open_source(table), table.parent)
    table.unlink()
    with pytest.raises(DataError, match=r"in\.parquet: cannot be read: no such file"):
        plan(Settings(), card_bundle(), "1", source, table.parent)
