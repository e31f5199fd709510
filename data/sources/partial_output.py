"""Unfinished output of a pipeline: a hidden folder beside the output, with one Parquet file ("part") for each block.

A part appears only when it is complete, and its metadata has the fingerprint of its job. An interrupted run leaves the
folder, so that the next run of the same job keeps the parts that are of it. When every part is there, the output
appears as a whole: on a local disk by a rename; on an object store, which has none, the parts are moved and
`_SUCCESS`, as Hadoop writes it, comes last.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from data.errors import DataError
from data.sources.atomic_output import atomic_file, cannot_write, refuse_foreign, replace_folder
from data.sources.filesystems import base_name, child, named, resolve, sibling, url
from data.sources.locked_folder import LOCK, locked_folder
from data.sources.parquet import ParquetSource

logger = logging.getLogger(__name__)

JOB = b"rayscore.job"
"""Metadata key of the job's fingerprint in the schema of a part."""
SUCCESS = "_SUCCESS"
_REFUSALS = (OSError, pa.ArrowException)


class PartialOutput:
    """The finished parts of one job in `folder`; open it with `open_parts`, which locks a local folder.

    Args:
        out: absolute path or URL of the final output.
        job: the job's fingerprint.
    """

    def __init__(self, out: Path, job: str) -> None:
        self._out = out
        self._job = job
        self.folder = partial_folder(out)
        self._system, self._inner = resolve(self.folder)

    def metadata(self, name: str) -> dict[bytes, bytes] | None:
        """Return the metadata of a part of this job; None when it is not there, is of another job, or broken."""
        try:
            found = pq.read_schema(f"{self._inner}/{name}", filesystem=self._system).metadata or {}
        except _REFUSALS:
            return None
        return found if found.get(JOB) == self._job.encode() else None

    def clear(self, keep: Sequence[str] = ()) -> None:
        """Delete all parts but those named, of whatever job, and what killed workers left of theirs.

        Raises:
            DataError: they cannot be deleted.
        """
        kept = {*keep, LOCK}
        try:
            for info in self._system.get_file_info(fs.FileSelector(self._inner, allow_not_found=True)):
                if info.base_name not in kept:
                    self._system.delete_file(info.path)
        except _REFUSALS as exc:
            raise cannot_write(self._out, exc) from exc

    def publish(self, names: Sequence[str], beside: Mapping[Path, Sequence[str]] | None = None) -> None:
        """Make the parts the output, as a folder or joined into one file in the order of the names.

        Args:
            names: of the parts of the output.
            beside: other parts, by the file that they are joined into.

        Raises:
            DataError: the output cannot be written.
        """
        try:
            for path, others in (beside or {}).items():
                self._join(others, path)
            self.clear(names)
            if is_file(self._out):
                self._join(names, self._out)
                self._system.delete_dir(self._inner)
            elif url(self._out):
                self._move(names)
            else:
                (self.folder / LOCK).unlink(missing_ok=True)
                replace_folder(self.folder, self._out)
        except _REFUSALS as exc:
            raise cannot_write(self._out, exc) from exc

    def _join(self, names: Sequence[str], path: Path) -> None:
        if url(path):
            system, inner = resolve(path)
            # An object appears when its stream is closed.
            with system.open_output_stream(inner) as stream:
                self._copy(names, stream)
            return
        with atomic_file(path) as target:
            if len(names) == 1:
                os.replace(self.folder / names[0], target)
                return
            with target.open("wb") as stream:
                self._copy(names, stream)

    def _copy(self, names: Sequence[str], stream: Any) -> None:
        schema = pq.read_schema(f"{self._inner}/{names[0]}", filesystem=self._system)
        with part_writer(stream, schema) as writer:
            for name in names:
                part = pq.ParquetFile(f"{self._inner}/{name}", filesystem=self._system)
                for group in range(part.num_row_groups):
                    writer.write_table(part.read_row_group(group))

    def _move(self, names: Sequence[str]) -> None:
        system, inner = resolve(self._out)
        for info in system.get_file_info(fs.FileSelector(inner, allow_not_found=True)):
            system.delete_file(info.path)
        system.create_dir(inner)
        for name in names:
            system.move(f"{self._inner}/{name}", f"{inner}/{name}")
        with system.open_output_stream(f"{inner}/{SUCCESS}"):
            pass
        self._system.delete_dir(self._inner)


@contextmanager
def open_parts(out: Path, job: str, fresh: bool = False) -> Iterator[PartialOutput]:
    """Open and lock the folder of a job's parts for the block; when the block fails, finished parts stay.

    Args:
        out: absolute path or URL of the output: a file when it ends in `.parquet`, else a folder.
        job: the job's fingerprint.
        fresh: delete the parts of an earlier run first.

    Raises:
        DataError: the output cannot be written, holds other files than Parquet, or another run is writing it.
    """
    check_output(out)
    with _locked(out):
        parts = PartialOutput(out, job)
        if fresh:
            parts.clear()
        try:
            yield parts
        finally:
            _remove_if_empty(parts)


def refuse_own_input(source: ParquetSource, out: Path) -> None:
    """Check that writing `out` cannot change the table that is read.

    Raises:
        DataError: the two are the same file or folder, also by a symbolic link, or one lies within the other.
    """
    table = _true_path(source.path)
    files = {_true_path(file) for file in source.files}
    for written in (_true_path(out), _true_path(partial_folder(out))):
        if written == table or table in written.parents or any(written in (f, *f.parents) for f in files):
            raise DataError(
                f"{named(out)}: writing it would change the input {named(source.path)}: one is the other, or lies "
                "within it; name another output"
            )


def check_output(out: Path) -> None:
    """Check that an output replaces nothing but rows.

    Raises:
        DataError: a folder that it would replace, here or behind a URL, holds other files than Parquet, or is named as
            a file; or a file is named as a folder.
    """
    if url(out):
        foreign = [] if is_file(out) else _foreign_objects(out)
        if foreign:
            raise DataError(f"{named(out)}: holds '{foreign[0]}', which is not a Parquet file; name a new folder")
    elif not is_file(out):
        refuse_foreign(out)
    elif out.is_dir():
        raise DataError(f"{out}: is a folder; name a file")


def _foreign_objects(out: Path) -> list[str]:
    system, inner = resolve(out)
    try:
        found = system.get_file_info(fs.FileSelector(inner, allow_not_found=True))
    except _REFUSALS as exc:
        raise cannot_write(out, exc) from exc
    return [
        info.base_name
        for info in found
        if info.type is fs.FileType.Directory or not (info.base_name == SUCCESS or info.base_name.endswith(".parquet"))
    ]


def is_file(out: Path) -> bool:
    """Return whether an output is one file, as its name says."""
    return base_name(out).endswith(".parquet")


def partial_folder(out: Path) -> Path:
    """Return the hidden folder beside an output in which its parts are written."""
    return sibling(out, f".{base_name(out)}.partial")


def write_part(folder: Path, name: str, table: pa.Table, job: str) -> None:
    """Write one part of at least one row, which appears whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    path = child(folder, name)
    stamped = table.replace_schema_metadata({**(table.schema.metadata or {}), JOB: job.encode()})
    try:
        if url(path):
            system, inner = resolve(path)
            with system.open_output_stream(inner) as stream, part_writer(stream, stamped.schema) as writer:
                writer.write_table(stamped)
            return
        with atomic_file(path) as partial, part_writer(partial, stamped.schema) as writer:
            writer.write_table(stamped)
    except _REFUSALS as exc:
        raise cannot_write(path, exc) from exc


def part_writer(where: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a Parquet writer, on a path or a stream, for rows whose keys, times and figures seldom repeat.

    Dictionary encoding only for columns whose values repeat: for the others Parquet would build a dictionary and give
    it up, which took half of the writing time of scores.
    """
    repeated = [field.name for field in schema if _repeats(field.type)]
    deltas = {field.name: "DELTA_BINARY_PACKED" for field in schema if _is_delta_encoded(field.type)}
    # As a dict, because pyarrow's type stubs declare use_dictionary as bool; it also takes column names.
    options: dict[str, Any] = {"use_dictionary": repeated, "column_encoding": deltas}
    return pq.ParquetWriter(where, schema, compression="zstd", **options)


def _repeats(kind: pa.DataType) -> bool:
    return pa.types.is_dictionary(kind) or pa.types.is_int8(kind)


def _is_delta_encoded(kind: pa.DataType) -> bool:
    whole = pa.types.is_integer(kind) and not pa.types.is_int8(kind)
    return whole or pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind)


def _true_path(path: Path) -> Path:
    return path if url(path) else path.resolve()


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Lock the folder against other runs.

    Behind a URL there are no locks: two runs at once are left to the user to avoid.
    """
    if url(out):
        yield
        return
    with locked_folder(partial_folder(out), out):
        yield


def _remove_if_empty(parts: PartialOutput) -> None:
    if not url(parts.folder):
        with suppress(OSError):
            if [file.name for file in parts.folder.iterdir()] == [LOCK]:
                shutil.rmtree(parts.folder)
