"""Encoded rows on disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from data.errors import DataError
from data.sources.filesystems import url
from tune.dataset.shards import Shards, discard, disk_error, shard_folder, shares, write_shard


def write(folder, sizes=(3, 5, 2)):
    """Shards of the numbers from 0 on, one feature."""
    if not url(folder):
        folder.mkdir(exist_ok=True)
    first, named = 0, []
    for number, size in enumerate(sizes):
        x = np.arange(first, first + size, dtype=np.float32).reshape(size, 1)
        write_shard(folder, f"{number}", x, (x[:, 0] % 2).astype(np.uint8))
        named.append((f"{number}", size))
        first += size
    return Shards(folder, 1, tuple(named))


@pytest.mark.parametrize("part", [(0, 10), (2, 4), (3, 8), (9, 10), (4, 4)])
def test_any_range_of_rows_is_read_in_order(tmp_path, part):
    """A range is read over the ends of shards, in order, with its labels."""
    blocks = list(write(tmp_path / "s").blocks(*part))
    values = [float(value) for x, _ in blocks for value in x[:, 0]]
    assert values == list(range(*part))
    assert [int(label) for _, y in blocks for label in y] == [value % 2 for value in range(*part)]


def test_shards_behind_a_url_are_read_like_those_of_a_disk():
    """Written through a file system of fsspec's, in whose folder nothing is left of a block that fails."""
    folder = Path("memory://shards/case")
    with shard_folder(folder, 0) as new:
        shards = write(new)
    shards.check()
    values = [float(value) for x, _ in shards.blocks(2, 9) for value in x[:, 0]]
    assert values == list(range(2, 9))
    with pytest.raises(KeyboardInterrupt), shard_folder(folder, 0) as new:
        write(new)
        raise KeyboardInterrupt
    with pytest.raises(DataError, match=r"memory://shards/case/0\.x\.npy: the shard cannot be read here"):
        shards.check()


@pytest.mark.parametrize(("rows", "actors"), [(10, 3), (16, 16), (7, 1)])
def test_shares_cover_every_row_once(rows, actors):
    """Every actor gets its share, and no two differ by more than a row."""
    parts = shares(rows, actors)
    assert [row for part in parts for row in part] == list(range(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_missing_or_damaged_shard_is_told(tmp_path):
    """A shard that is not there names the folder that machines must share; one of another size is refused."""
    shards = write(tmp_path / "s")
    shards.check()
    (tmp_path / "s" / "1.x.npy").unlink()
    with pytest.raises(
        DataError, match=r"1\.x\.npy: .*RAYSCORE_SHARDS_DIR must name a URL, or a folder that all of them share"
    ):
        shards.check()
    np.save(tmp_path / "s" / "1.x.npy", np.zeros((4, 1), np.float32))
    with pytest.raises(DataError, match=r"holds \(4, 1\), expected \(5, 1\)"):
        shards.check()


def test_folder_appears_whole_or_not_at_all(tmp_path):
    """Nothing is left of a block that fails, and shards of an earlier run are gone before it begins."""
    target = tmp_path / "shards" / "case"
    with shard_folder(target, 0) as folder:
        write(folder)
    assert len(list(target.iterdir())) == 6
    with pytest.raises(DataError, match="broken"), shard_folder(target, 0) as folder:
        write(folder)
        raise DataError("broken")
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("where", ["{}/case", "file://{}/case"])
def test_what_is_no_shard_is_never_removed(tmp_path, where):
    """A folder of that name which holds a table is left as it is, by the search and by its end."""
    folder = Path(where.format(tmp_path))
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"case: holds 'rows\.parquet', .*RAYSCORE_SHARDS_DIR"), shard_folder(folder, 0):
        raise AssertionError("not reached")
    with pytest.raises(DataError, match=r"holds 'rows\.parquet'"):
        discard(folder)
    assert (tmp_path / "case" / "rows.parquet").read_bytes() == b"PAR1"


def test_table_that_the_disk_has_no_room_for_is_refused_before_it_is_read(tmp_path):
    """The error tells how much is needed, how much there is, and what to do; nothing is made."""
    with (
        pytest.raises(DataError, match=r"need 1,000,000,000,000 MB, .*RAYSCORE_VAR_DIR"),
        shard_folder(tmp_path / "shards" / "case", 10**18),
    ):
        raise AssertionError("not reached")
    assert not (tmp_path / "shards" / "case").exists()


def test_full_disk_while_writing_is_told(tmp_path):
    """What the operating system calls a full disk becomes an error with what to do (written to /dev/full)."""
    os.symlink("/dev/full", tmp_path / "0.x.npy")
    with pytest.raises(DataError, match="the disk is full; nothing was kept"):
        write_shard(tmp_path, "0", np.zeros((100_000, 4), np.float32), np.zeros(100_000, np.uint8))
    assert "Permission denied" in str(disk_error(tmp_path, OSError(errno.EACCES, "Permission denied")))
