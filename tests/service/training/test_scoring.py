"""`rayscore score` on a cluster that runs: what it keeps of a run that failed, and what not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data.cli.terminal import run_cli
from ray_app.__main__ import main
from tests.support.training.models import card_bundle, many_card_files

pytestmark = pytest.mark.ray
FILES, ROWS = 12, 2000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of some files."""
    return many_card_files(tmp_path / "in", FILES, ROWS)


def score(place: Path, *words: str | Path) -> int:
    """Score with a bundle of the place, as the command does, and return the exit code."""
    bundle = place / "bundle"
    if not bundle.exists():
        card_bundle().save(bundle)
    return run_cli(main, ["score", "--bundle", str(bundle), *map(str, words)])


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Damage the second half of a file for the `with` block; its size and time of change stay as they were."""
    whole, status = path.read_bytes(), path.stat()
    path.unlink()
    path.write_bytes(b"PAR1" + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    yield
    path.write_bytes(whole)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_file_that_fails_costs_its_own_piece_only(
    ray_cluster: None, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
):
    """One broken file fails the command by its name; when it is whole again, the other pieces are kept."""
    last, out = folder / f"f{FILES - 1:03d}.parquet", tmp_path / "out.parquet"
    with damaged(last):
        assert score(tmp_path, folder, out) == 2
    assert f"{last}: truncated or not a Parquet file" in capsys.readouterr().err
    assert not out.exists()

    assert score(tmp_path, folder, out) == 0
    assert "resuming: " in capsys.readouterr().err
    assert pq.read_metadata(out).num_rows == FILES * ROWS
    assert not list(tmp_path.glob(".out*"))


def test_fresh_begins_anew(ray_cluster: None, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]):
    """Asked for, finished parts of an ended run are not kept, which would be otherwise."""
    out = tmp_path / "out"
    with damaged(folder / f"f{FILES - 1:03d}.parquet"):
        assert score(tmp_path, folder, out) == 2
    assert list((tmp_path / ".out.partial").glob("part-*"))
    assert score(tmp_path, "--fresh", folder, out) == 0
    assert "resuming" not in capsys.readouterr().err
    assert pq.ParquetDataset(out).read().num_rows == FILES * ROWS
