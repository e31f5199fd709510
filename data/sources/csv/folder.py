"""CSV files of a folder: which are read, which are not and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from data.errors import DataError

_ENDING = re.compile(r"\.(?:csv|tsv)(?:\.(?:gz|gzip|bz2|zst|zstd|lz4|xz|zip))?$", re.IGNORECASE)


@dataclass(frozen=True)
class CsvFiles:
    """The files to read in name order, and by name why each other entry of the folder is not read."""

    files: tuple[Path, ...]
    unread: dict[str, str]


def csv_files(path: Path | str) -> CsvFiles:
    """Return the file itself, whatever its ending, or the files of a folder that end in .csv or .tsv, in any case.

    A compressed file has one more ending, such as .gz. Folders within the folder are not read.

    Raises:
        DataError: nothing is there, or the folder has no such file.
    """
    path = Path(path)
    if path.is_file():
        return CsvFiles((path,), {})
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    try:
        entries = sorted(path.iterdir())
    except OSError as exc:
        raise DataError(f"{path}: cannot be listed: {exc.strerror or exc}") from exc
    unread = {entry.name: reason for entry in entries if (reason := _why_unread(entry))}
    files = tuple(entry for entry in entries if entry.name not in unread)
    if not files:
        others = f"; it holds {', '.join(unread)}"[:200] if unread else ""
        raise DataError(f"{path}: the folder holds no .csv file (nor .tsv, nor one of these compressed){others}")
    return CsvFiles(files, unread)


def _why_unread(entry: Path) -> str | None:
    if entry.is_dir():
        return "is a folder"
    if not entry.exists():
        return "is a link to nothing"
    if not entry.is_file():
        return "is no regular file"
    if entry.name.startswith("."):
        return "is hidden"
    return None if _ENDING.search(entry.name) else "does not end in .csv or .tsv"
