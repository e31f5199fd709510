"""Table files: every file of a folder, told apart into those that hold rows of the table and those that do not.

A file is Parquet by its ending, in any case, or by its first bytes. What is not read is named with the reason: a
table that lacks a file looks like a smaller table, and nobody sees it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data.errors import DataError
from data.sources.filesystems import first_bytes, legible, list_url, named, url
from data.sources.hive_partitions import Partition, is_partition, partition_of

# Hive and Impala add the codec of the pages to the name; the file itself is plain Parquet.
_ENDING = re.compile(r"\.(parquet|parq|pq)(\.(snappy|gz|gzip|zstd|zst|lz4|br|brotli|lzo|uncompressed|none))?$", re.I)
_CSV = re.compile(r"\.(csv|tsv)(\.\w+)?$", re.I)
_LEFTOVER = re.compile(r"(~|\.(bak|old|orig|tmp|temp|partial|inprogress|crdownload))$", re.I)
_MAGIC = b"PAR1"
_VERSIONED = (
    (re.compile(r"(?:^|/)_delta_log/"), "Delta Lake"),
    (re.compile(r"(?:^|/)metadata/[^/]+\.metadata\.json$"), "Apache Iceberg"),
    (re.compile(r"(?:^|/)\.hoodie/"), "Apache Hudi"),
)
_SHOWN = 5


@dataclass(frozen=True)
class TableFile:
    """One Parquet file of a table, and what the names of its folders state."""

    path: Path
    partition: Partition = field(default_factory=dict)


@dataclass(frozen=True)
class Unread:
    """One entry of a folder that is not read, by its path within the folder, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class TableFiles:
    """The files of a table in name order, and what else lies in its folder."""

    files: tuple[TableFile, ...]
    unread: tuple[Unread, ...] = ()


def table_files(path: Path | str) -> TableFiles:
    """Return the file itself, or all that a folder holds; URLs too.

    Links are followed. Left out, and named, are entries whose names begin with `.` or `_`, dead links, links to what is
    read already, backups, and files that are not Parquet.

    Raises:
        DataError: nothing is there, it cannot be listed, or the folder holds no Parquet file; it is a table of a format
            that keeps replaced rows in its folder; or the name of a Parquet file is not UTF-8.
    """
    found = _remote(path) if url(path) else _local(Path(path))
    if not found.files:
        others = f" (it holds {unread_text(found.unread)})" if found.unread else ""
        raise DataError(
            f"{named(path)}: the folder holds no Parquet file{others}; 'rayscore convert' makes them from CSV"
        )
    return found


def unread_text(unread: Sequence[Unread]) -> str:
    """Return the names of what is not read, by reason, the first of each: `a.txt, b.txt (not Parquet)`."""
    reasons: dict[str, list[str]] = {}
    for each in unread:
        reasons.setdefault(each.reason, []).append(each.name)
    return "; ".join(f"{_names(names)} ({reason})" for reason, names in reasons.items())


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _remote(path: Path | str) -> TableFiles:
    entries = list_url(path)
    if entries is None:
        return TableFiles((TableFile(Path(path)),))
    return _sorted_out(path, ((each.inside, each.path, None) for each in entries))


def _local(path: Path) -> TableFiles:
    if not _is_text(str(path)):
        raise DataError(f"{named(path)}: the path is not UTF-8; rename what is not")
    if path.is_file():
        return TableFiles((TableFile(path),))
    if not path.exists():
        link = f", but a link to {os.readlink(path)}, which does not exist" if path.is_symlink() else ""
        raise DataError(f"{named(path)}: no such file or folder{link}")
    if not path.is_dir():
        raise DataError(f"{named(path)}: {_irregular(path)}; write what comes out of it to a file first")
    return _sorted_out(path, _walk(path))


_Entry = tuple[PurePosixPath, Path, "str | None"]
"""Path within the folder, the path itself, and why it cannot be read, if that is known already."""


def _sorted_out(folder: Path | str, entries: Iterator[_Entry]) -> TableFiles:
    files: list[TableFile] = []
    unread: list[Unread] = []
    for inside, path, problem in sorted(entries, key=lambda entry: entry[0]):
        _refuse_versioned(folder, inside)
        reason = problem or _hidden(inside) or _nameless(path) or _not_parquet(path)
        if reason:
            unread.append(Unread(legible(str(inside)), reason))
        else:
            files.append(TableFile(path, partition_of(inside.parts[:-1], named(path))))
    return TableFiles(tuple(files), tuple(unread))


def _refuse_versioned(folder: Path | str, inside: PurePosixPath) -> None:
    """Refuse a folder in which files of rows that were replaced or deleted lie beside the others."""
    for log, name in _VERSIONED:
        if log.search(str(inside)):
            raise DataError(
                f"{named(folder)}: a table of {name} ({legible(str(inside))}), whose files hold replaced or deleted "
                f"rows as well; write its rows as plain Parquet with a tool that reads {name}"
            )


def _nameless(path: Path) -> str | None:
    if _is_text(str(path)):
        return None
    if _ENDING.search(path.name):
        raise DataError(f"{named(path)}: the name is not UTF-8; rename the file")
    return "the name is not UTF-8"


def _is_text(name: str) -> bool:
    # Bytes of a name that are not UTF-8 come as lone surrogates.
    return name.isascii() or name.encode(errors="replace").decode() == name


def _hidden(inside: PurePosixPath) -> str | None:
    # Spark and Hive write `_SUCCESS`, `_metadata` and `_temporary/`; a partition may be of a column `_x`.
    for part in inside.parts:
        if part[0] == "." or (part[0] == "_" and not is_partition(part)):
            return f"'{part[0]}' begins a hidden name"
    return None


def _not_parquet(path: Path) -> str | None:
    if _ENDING.search(path.name.partition("?")[0]):
        return None
    try:
        magic = first_bytes(path, len(_MAGIC))
    except OSError as exc:
        return f"cannot be read: {exc.strerror or exc}"
    if magic == _MAGIC:
        return "a backup, or not finished" if _LEFTOVER.search(path.name) else None
    if not magic:
        return "empty"
    return "CSV: 'rayscore convert' makes Parquet of it" if _CSV.search(path.name) else "not Parquet"


def _walk(root: Path) -> Iterator[_Entry]:
    """Yield every entry below a folder that is no folder itself, each file and folder once, however it is linked."""
    seen = {os.path.realpath(root)}
    folders, links = [root], []
    while folders or links:
        # Links last: what they lead to may stand in the folder itself, and is read there.
        following = not folders
        for entry in [links.pop(0)] if following else _listed(folders.pop()):
            if entry.is_symlink() and not following:
                links.append(entry)
                continue
            real, problem = os.path.realpath(entry), _unfollowed(entry, seen)
            seen.add(real)
            if problem is None and os.path.isdir(real):
                folders.append(entry)
            else:
                yield PurePosixPath(entry.relative_to(root)), entry, problem or _irregular(entry)


def _unfollowed(entry: Path, seen: set[str]) -> str | None:
    to = f"a link to {os.readlink(entry)}, which" if entry.is_symlink() else "a folder that a link leads to, which"
    if not entry.exists():
        return f"{to} does not exist"
    return f"{to} is read already" if os.path.realpath(entry) in seen else None


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as exc:
        raise DataError(f"{folder}: cannot be listed: {exc.strerror or exc}") from exc


def _irregular(path: Path) -> str | None:
    return None if stat.S_ISREG(path.stat().st_mode) else "neither a file nor a folder"
