"""File systems behind URLs such as `s3://bucket/folder`, from PyArrow or fsspec.

A URL may be carried in a `Path`, which merges its two slashes into one ("s3:/bucket/folder"); `url` restores it. So
every option and signature that takes a path takes a URL as well.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import quote

import fsspec.core
import pyarrow as pa
from pyarrow import fs

from data.errors import DataError

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)
_HERE = ("file", "local")


def url(path: Path | str) -> str | None:
    """Return the URL that `path` stands for, or None for a path on this machine."""
    match = _URL.fullmatch(str(path))
    if not match:
        return None
    scheme, rest = match.groups()
    # A file URL has no host: three slashes.
    return f"{scheme}://{'/' if scheme in _HERE else ''}{rest}"


def named(path: Path | str) -> str:
    """Return a path for people, on one line: a URL without the credentials and options that it may carry."""
    address = url(path)
    return legible(re.sub(r"//[^/?]*@", "//", address.partition("?")[0]) if address else str(path))


def legible(name: str) -> str:
    """Return a name with line ends, other control characters and bytes that are no text escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in name)


def absolute(path: Path) -> Path:
    """Return the path in a form that holds in any working directory: absolute, or the URL as it is."""
    return path if url(path) else path.absolute()


def locate(path: Path | str) -> tuple[fs.FileSystem, str]:
    """Return the file system that a URL names, and the path within it.

    PyArrow's own file systems (s3, gs, hdfs, abfs, file) come first; fsspec's take the rest.

    Raises:
        DataError: the scheme is unknown, its driver is not installed, the URL is malformed, or nobody answers there.
    """
    address = url(path) or str(path)
    try:
        return fs.FileSystem.from_uri(address)
    except (pa.ArrowException, ValueError):
        pass
    except OSError as exc:
        raise DataError(f"{named(path)}: cannot be reached: {' '.join(str(exc).split())}") from exc
    try:
        system, inner = fsspec.core.url_to_fs(address)
        return fs.PyFileSystem(fs.FSSpecHandler(system)), str(inner)
    except (ValueError, ImportError, OSError) as exc:
        raise DataError(f"{named(path)}: no file system for this address: {' '.join(str(exc).split())}") from exc


def resolve(path: Path | str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a path on this machine or behind a URL, and the path within it; as `locate` raises."""
    return locate(path) if url(path) else (fs.LocalFileSystem(), str(path))


def child(folder: Path, name: str) -> Path:
    """Return the path of `name` within a folder; a URL keeps the options in its query."""
    base, mark, options = str(folder).partition("?") if url(folder) else (str(folder), "", "")
    return Path(f"{base.rstrip('/')}/{name}{mark}{options}")


def sibling(path: Path, name: str) -> Path:
    """Return the path of `name` beside another path; a URL keeps the options in its query."""
    base, mark, options = str(path).partition("?") if url(path) else (str(path), "", "")
    return Path(f"{base.rstrip('/').rpartition('/')[0]}/{name}{mark}{options}")


def base_name(path: Path | str) -> str:
    """Return the last name of a path or URL, without the options in its query."""
    return (str(path).partition("?")[0] if url(path) else str(path)).rstrip("/").rpartition("/")[2]


def file_size(file: Path) -> int:
    """Return the size of a file or URL in bytes; raises OSError when it cannot be read."""
    system, inner = resolve(file)
    return system.get_file_info(inner).size or 0


def remove_file(file: Path) -> None:
    """Remove a file or an object behind a URL, if it is there; raises OSError when it cannot be removed."""
    system, inner = resolve(file)
    if system.get_file_info(inner).type is fs.FileType.File:
        system.delete_file(inner)


class Entry(NamedTuple):
    """One file of a folder behind a URL: its path within the folder, and its URL."""

    inside: PurePosixPath
    path: Path


def list_url(path: Path | str) -> list[Entry] | None:
    """Return every file of a folder behind a URL, however deep, in name order; None when the URL names a file.

    Raises:
        DataError: nothing is there, or it cannot be listed.
    """
    address = url(path) or str(path)
    system, inner = locate(path)
    try:
        kind = system.get_file_info(inner).type
        if kind is fs.FileType.File:
            return None
        if kind is fs.FileType.NotFound:
            raise DataError(f"{named(path)}: no such file or folder")
        found = system.get_file_info(fs.FileSelector(inner, recursive=True))
    except (pa.ArrowException, OSError) as exc:
        raise DataError(f"{named(path)}: cannot be listed: {' '.join(str(exc).split())}") from exc
    inside = sorted(PurePosixPath(each.path).relative_to(inner) for each in found if each.type is fs.FileType.File)
    # Options in the query (endpoint, region) belong to the file system: each file's URL needs them.
    folder, mark, options = address.partition("?")
    # PyArrow takes a URL's path for percent-encoded, fsspec takes it as it is.
    as_written = str if isinstance(system, fs.PyFileSystem) else quote
    return [Entry(file, Path(f"{folder.rstrip('/')}/{as_written(str(file))}{mark}{options}")) for file in inside]


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first bytes of a file or URL; raises OSError when it cannot be read."""
    system, inner = resolve(path)
    with system.open_input_stream(inner, compression=None) as stream:
        return stream.read(count)
