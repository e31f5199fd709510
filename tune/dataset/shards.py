"""Shards: the encoded rows of a large table on disk, which training reads by path, one block at a time.

A shard is two NumPy files, `NAME.x.npy` (float32, C order, shape (n, k)) and `NAME.y.npy` (labels, shape (n,)).
They are memory-mapped: no decoding, no copy, and pages that the kernel may drop. Parquet would save a quarter of the
space and cost a third of a second per million rows, in each of several passes of a fit.

Behind a URL, where nodes share no disk, a shard is fetched whole whenever a pass reads it: one at a time is in memory.
"""

from __future__ import annotations

import io
import itertools
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import fs

from data.errors import DataError, disk_error
from data.sources.atomic_output import atomic_folder, cannot_write
from data.sources.filesystems import child, named, resolve, url

_SPARE_BYTES = 256 * 1024 * 1024
"""Room that is left free on the disk for other programs."""


_ENDINGS = (".x.npy", ".y.npy")


class Shards(NamedTuple):
    """The shards of one table, in order. Every process that reads them must see `folder` under this path or URL."""

    folder: Path
    features: int
    sizes: tuple[tuple[str, int], ...]
    """Name and rows of each shard."""

    @property
    def rows(self) -> int:
        """Number of rows of all shards."""
        return sum(count for _, count in self.sizes)

    def blocks(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (x, y) of the rows `start` to `stop` (exclusive) in order, at most one shard per block.

        Raises:
            DataError: a shard is missing or damaged.
        """
        first = 0
        for name, count in self.sizes:
            low, high = max(start - first, 0), min(stop - first, count)
            if low < high:
                x, y = self._open(name, count)
                yield x[low:high], y[low:high]
            first += count

    def check(self) -> None:
        """Raise DataError unless this process can read every shard; behind a URL, the first of them."""
        for name, count in self.sizes[: 1 if url(self.folder) else None]:
            self._open(name, count)

    def _open(self, name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        paths = _paths(self.folder, name)
        try:
            x, y = (_fetched(path) if url(path) else np.load(path, mmap_mode="r") for path in paths)
        except (OSError, ValueError, pa.ArrowException) as exc:
            raise DataError(
                f"{named(paths[0])}: the shard cannot be read here ({exc}); on more than one machine "
                "RAYSCORE_SHARDS_DIR must name a URL, or a folder that all of them share"
            ) from exc
        if x.shape != (count, self.features) or y.shape != (count,):
            raise DataError(f"{named(paths[0])}: holds {x.shape}, expected ({count}, {self.features}); start again")
        return x, y


class PartShards(NamedTuple):
    """The shards of a table by part: the train rows, and the rows of validation and holdout."""

    train: Shards
    others: Shards

    @property
    def all(self) -> Shards:
        """Every row of the table: those to train on, then the others."""
        return self.train._replace(sizes=self.train.sizes + self.others.sizes)

    def moved(self, folder: Path) -> PartShards:
        """The same shards in another folder."""
        return PartShards(*(each._replace(folder=folder) for each in self))


def write_shard(folder: Path, name: str, x: np.ndarray, y: np.ndarray) -> None:
    """Write one shard: `x` float32 of shape (n, k), `y` labels of shape (n,).

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    try:
        for path, array in zip(_paths(folder, name), (x, y), strict=True):
            if url(path):
                _put(path, array)
            else:
                np.save(path, array, allow_pickle=False)
    except pa.ArrowException as exc:
        raise cannot_write(folder, exc) from exc
    except OSError as exc:
        raise cannot_write(folder, exc) if url(folder) else disk_error(folder, exc) from exc


@contextmanager
def shard_folder(path: Path, expected_bytes: int) -> Iterator[Path]:
    """Yield a temporary folder for shards, which becomes `path` when the `with` block succeeds; a URL is used itself.

    Shards of an earlier run are removed first; after an error nothing is left.

    Raises:
        DataError: the disk lacks room for `expected_bytes`, or the folder cannot be written, or holds something else.
    """
    discard(path)
    if url(path):
        try:
            yield path
        except BaseException:
            discard(path)
            raise
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
    except OSError as exc:
        raise disk_error(path, exc) from exc
    if free < expected_bytes + _SPARE_BYTES:
        raise DataError(
            f"{path}: the encoded rows need {expected_bytes / 1e6:,.0f} MB, the disk has {free / 1e6:,.0f} MB free; "
            "free some, or set RAYSCORE_VAR_DIR to a folder on a larger disk"
        )
    with atomic_folder(path) as partial:
        yield partial


def discard(path: Path) -> None:
    """Remove the shards at `path`, if there are any.

    Raises:
        DataError: the folder holds something else, which a setting that names the wrong folder must not cost.
    """
    foreign = _foreign(path)
    if foreign:
        raise DataError(
            f"{named(path)}: holds '{foreign[0]}', which is no shard, and the folder is to be replaced: move it away, "
            "or name another folder in RAYSCORE_SHARDS_DIR"
        )
    if url(path):
        system, inner = resolve(path)
        with suppress(OSError, pa.ArrowException):
            system.delete_dir(inner)
        return
    shutil.rmtree(path, ignore_errors=True)


def shard_bytes(rows: int, features: int) -> int:
    """Return the size of `rows` encoded rows on disk, in bytes."""
    return rows * (features + 1) * 4


def shares(rows: int, actors: int) -> Sequence[range]:
    """Divide `rows` rows into one consecutive range per actor; their sizes differ by at most one."""
    ends = [rows * actor // actors for actor in range(actors + 1)]
    return [range(low, high) for low, high in itertools.pairwise(ends)]


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    of_x, of_y = (child(folder, f"{name}{ending}") for ending in _ENDINGS)
    return of_x, of_y


def _foreign(path: Path) -> list[str]:
    system, inner = resolve(path)
    try:
        found = system.get_file_info(fs.FileSelector(inner, allow_not_found=True))
    except (OSError, pa.ArrowException):
        # Writing will tell what is wrong with it.
        return []
    return [info.base_name for info in found if not info.base_name.endswith(_ENDINGS)]


def _put(path: Path, array: np.ndarray) -> None:
    system, inner = resolve(path)
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    with system.open_output_stream(inner) as stream:
        stream.write(content.getbuffer())


def _fetched(path: Path) -> np.ndarray:
    system, inner = resolve(path)
    with system.open_input_stream(inner, compression=None) as stream:
        return np.load(io.BytesIO(stream.read()), allow_pickle=False)
