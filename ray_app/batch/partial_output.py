"""The output of batch scoring while it grows: finished parts in a hidden folder, which a run that was ended leaves.

A part is there when it is whole. It carries the fingerprint of its job, so that a later run of the same command
knows which parts it may keep. Pure pyarrow.
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
"""Key of the job's fingerprint in a part's schema metadata."""
_LOCK = ".lock"


class PartialOutput:
    """The parts of one job in `folder`; `open_parts` makes it."""

    def __init__(self, out: Path, folder: Path, job: str) -> None:
        self._out = out
        self.folder = folder
        self._job = job

    def finished(self, chunk: Chunk) -> bool:
        """True when the chunk's part is there, whole and of this job."""
        try:
            found = pq.read_metadata(part_path(self.folder, chunk.index))
        except (pa.ArrowException, OSError):
            return False
        return found.num_rows == chunk.rows and (found.metadata or {}).get(JOB) == self._job.encode()

    def clear(self, keep: Sequence[Chunk]) -> None:
        """Remove everything but the parts of the chunks to keep."""
        kept = {part_path(self.folder, chunk.index).name for chunk in keep} | {_LOCK}
        for file in self.folder.iterdir():
            if file.name not in kept:
                file.unlink()

    def publish(self, chunks: Sequence[Chunk]) -> None:
        """Make the parts of all chunks the output: a folder, or one file in the chunks' order.

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
                with atomic_file(self._out) as joined:
                    _join(files, joined)
            shutil.rmtree(self.folder)
        except OSError as exc:
            raise cannot_write(self._out, exc) from exc


@contextmanager
def open_parts(out: Path, job: str, fresh: bool = False) -> Iterator[PartialOutput]:
    """Hold the folder of a job's parts beside `out` inside the block; it stays when the block fails, unless empty.

    Args:
        out: absolute path of the output: a file when it ends in `.parquet`, else a folder.
        job: the job's fingerprint.
        fresh: remove parts that an earlier run left.

    Raises:
        DataError: the output cannot be written, is something else than Parquet, or another run is writing it.
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
    """Raise DataError when writing `out` could change the table that is read: one is the other, or within it."""
    table = source.path.resolve()
    files = {file.resolve() for file in source.files}
    for written in (out.resolve(), _partial(out).resolve()):
        if written == table or table in written.parents or any(written in (f, *f.parents) for f in files):
            raise DataError(
                f"{out}: writing it would change the input {source.path}: one is the other, or lies within it; "
                "name another output"
            )


def part_path(folder: Path, index: int) -> Path:
    """Where a chunk's scores go; in name order they are in the order of the source."""
    return folder / f"part-{index:05d}.parquet"


def part_writer(file: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of scored rows.

    Keys, times and scores seldom repeat: a dictionary of them is built in vain, which took half of the writing.
    """
    repeated = [field.name for field in schema if pa.types.is_dictionary(field.type) or pa.types.is_int8(field.type)]
    steps = {field.name: "DELTA_BINARY_PACKED" for field in schema if _stepwise(field.type)}
    # The stubs know use_dictionary as a switch for all columns only.
    options: dict[str, Any] = {"use_dictionary": repeated, "column_encoding": steps}
    return pq.ParquetWriter(file, schema, compression="zstd", **options)


def _stepwise(kind: pa.DataType) -> bool:
    whole = pa.types.is_integer(kind) and not pa.types.is_int8(kind)
    return whole or pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind)


def _join(files: Sequence[Path], joined: Path) -> None:
    with part_writer(joined, pq.read_schema(files[0])) as writer:
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
    """Hold the folder alone; the kernel frees the lock however this process ends."""
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
            # Some shared file systems have no locks: two runs are then the user's to avoid.
            logger.debug("%s cannot be locked: %s", folder, exc)
        yield


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        if [file.name for file in folder.iterdir()] == [_LOCK]:
            shutil.rmtree(folder)
