"""Unfinished output of batch scoring: a hidden folder beside the output with one Parquet file ("part") per chunk.

A part appears only when it is complete, and its metadata has the fingerprint of its job. An interrupted run leaves the
folder, so that the next run of the same command keeps the parts that are of the same job.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import DataError
from data.sources.parquet import Chunk, ParquetSource, atomic_file, cannot_write, refuse_foreign, replace_folder

logger = logging.getLogger(__name__)

JOB = b"rayscore.job"
"""Metadata key of the job's fingerprint in the schema of a part."""
_LOCK = ".lock"


class PartialOutput:
    """The finished parts of one job in `folder`; open it with `open_parts`, which locks the folder.

    Args:
        out: absolute path of the final output.
        folder: hidden folder of the parts.
        job: the job's fingerprint.
    """

    def __init__(self, out: Path, folder: Path, job: str) -> None:
        self._out = out
        self.folder = folder
        self._job = job

    def finished(self, chunk: Chunk) -> bool:
        """True when the chunk has a readable part with the chunk's number of rows and this job's fingerprint."""
        try:
            part = pq.read_metadata(part_path(self.folder, chunk.index))
        except (pa.ArrowException, OSError):
            return False
        return part.num_rows == chunk.rows and (part.metadata or {}).get(JOB) == self._job.encode()

    def clear(self, keep: Sequence[Chunk]) -> None:
        """Delete all files of the folder but the parts of these chunks and the lock."""
        names = {part_path(self.folder, chunk.index).name for chunk in keep} | {_LOCK}
        for file in self.folder.iterdir():
            if file.name not in names:
                file.unlink()

    def publish(self, chunks: Sequence[Chunk]) -> None:
        """Move the parts of all chunks to the output, as a folder or joined into one file in the chunks' order.

        Raises:
            DataError: the output cannot be written.
        """
        files = [part_path(self.folder, chunk.index) for chunk in chunks]
        try:
            if not _is_file(self._out):
                self.clear(chunks)
                (self.folder / _LOCK).unlink()
                replace_folder(self.folder, self._out)
                return
            if len(files) == 1:
                os.replace(files[0], self._out)
            else:
                with atomic_file(self._out) as target:
                    _join(files, target)
            shutil.rmtree(self.folder)
        except OSError as exc:
            raise cannot_write(self._out, exc) from exc


@contextmanager
def open_parts(out: Path, job: str, fresh: bool = False) -> Iterator[PartialOutput]:
    """Open and lock the folder of a job's parts for the block; when the block fails, finished parts stay.

    Args:
        out: absolute path of the output: a file when it ends in `.parquet`, else a folder.
        job: the job's fingerprint.
        fresh: delete the parts of an earlier run first.

    Raises:
        DataError: the output cannot be written, holds other files than Parquet, or another run is writing it.
    """
    _check_output(out)
    folder = _partial(out)
    with _locked(folder, out):
        parts = PartialOutput(out, folder, job)
        if fresh:
            parts.clear(())
        try:
            yield parts
        finally:
            _remove_if_empty(folder)


def refuse_own_input(source: ParquetSource, out: Path) -> None:
    """Check that writing `out` cannot change the table that is read.

    Raises:
        DataError: the two are the same file or folder, also by a symbolic link, or one lies within the other.
    """
    table = source.path.resolve()
    files = {file.resolve() for file in source.files}
    for written in (out.resolve(), _partial(out).resolve()):
        if written == table or table in written.parents or any(written in (f, *f.parents) for f in files):
            raise DataError(
                f"{out}: writing it would change the input {source.path}: one is the other, or lies within it; "
                "name another output"
            )


def part_path(folder: Path, index: int) -> Path:
    """Path of the part of chunk number `index`; parts sorted by name are in the order of the source."""
    return folder / f"part-{index:05d}.parquet"


def part_writer(file: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a Parquet writer for scored rows.

    Dictionary encoding only for columns whose values repeat: for keys, times and scores, which seldom do, Parquet would
    build a dictionary and give it up, which took half of the writing time.
    """
    repeated = [field.name for field in schema if pa.types.is_dictionary(field.type) or pa.types.is_int8(field.type)]
    deltas = {field.name: "DELTA_BINARY_PACKED" for field in schema if _is_delta_encoded(field.type)}
    # As a dict, because pyarrow's type stubs declare use_dictionary as bool; it also takes column names.
    options: dict[str, Any] = {"use_dictionary": repeated, "column_encoding": deltas}
    return pq.ParquetWriter(file, schema, compression="zstd", **options)


def _is_delta_encoded(kind: pa.DataType) -> bool:
    whole = pa.types.is_integer(kind) and not pa.types.is_int8(kind)
    return whole or pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind)


def _join(files: Sequence[Path], target: Path) -> None:
    with part_writer(target, pq.read_schema(files[0])) as writer:
        for file in files:
            part = pq.ParquetFile(file)
            for group in range(part.num_row_groups):
                writer.write_table(part.read_row_group(group))


def _partial(out: Path) -> Path:
    return out.with_name(f".{out.name}.partial")


def _is_file(out: Path) -> bool:
    return out.suffix == ".parquet"


def _check_output(out: Path) -> None:
    if not _is_file(out):
        refuse_foreign(out)
    elif out.is_dir():
        raise DataError(f"{out}: is a folder; name a file")


@contextmanager
def _locked(folder: Path, out: Path) -> Iterator[None]:
    """Lock the folder against other runs; a kernel lock, freed however this process ends, so none is ever stale."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("w")
    except OSError as exc:
        raise cannot_write(out, exc) from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise DataError(f"{out}: another run is writing it; wait for its end or name another output") from exc
        except OSError as exc:
            # Some network file systems have no locks: go on without one, and leave it to the user to avoid two runs.
            logger.debug("%s cannot be locked: %s", folder, exc)
        yield


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        if [file.name for file in folder.iterdir()] == [_LOCK]:
            shutil.rmtree(folder)
