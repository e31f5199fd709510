"""Tables that are not on this machine: `s3://bucket/folder` and its like, by PyArrow's file systems or fsspec's.

A URL may travel as a `Path`, which keeps it but for one slash ("s3:/bucket/folder"); `url` gives it back. So
every option, message and signature that takes a path takes a URL as well.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import fsspec.core
import pyarrow as pa
from pyarrow import fs

from data.errors import DataError

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)
_HERE = ("file", "local")


def url(path: Path | str) -> str | None:
    """Return the URL that `path` stands for, None for a path of this machine."""
    found = _URL.fullmatch(str(path))
    if not found:
        return None
    # An address on this machine has no host: three slashes.
    return f"{found[1]}://{'/' if found[1] in _HERE else ''}{found[2]}"


def absolute(path: Path) -> Path:
    """Return the path as processes in other working directories must have it."""
    return path if url(path) else path.absolute()


def locate(path: Path | str) -> tuple[fs.FileSystem, str]:
    """Return the file system and the path in it of a URL.

    PyArrow's own file systems (s3, gs, hdfs, abfs, file) come first; fsspec's take the rest.

    Raises:
        DataError: nobody knows the scheme, its driver is not installed, or the URL is malformed.
    """
    address = url(path) or str(path)
    try:
        return fs.FileSystem.from_uri(address)
    except (pa.ArrowException, ValueError):
        pass
    try:
        found, inner = fsspec.core.url_to_fs(address)
        return fs.PyFileSystem(fs.FSSpecHandler(found)), str(inner)
    except (ValueError, ImportError, OSError) as exc:
        raise DataError(f"{address}: no file system for this address: {' '.join(str(exc).split())}") from exc


def parquet_urls(path: Path | str) -> list[Path]:
    """Return a URL's file, or the `*.parquet` files of its folder in name order, hidden ones left out.

    Raises:
        DataError: nothing is there, it holds no Parquet file, or the store does not let us look.
    """
    address = url(path) or str(path)
    system, inner = locate(path)
    try:
        kind = system.get_file_info(inner).type
        if kind is fs.FileType.File:
            return [Path(address)]
        if kind is fs.FileType.NotFound:
            raise DataError(f"{address}: no such file or folder")
        found = system.get_file_info(fs.FileSelector(inner, recursive=True))
    except (pa.ArrowException, OSError) as exc:
        raise DataError(f"{address}: cannot be listed: {' '.join(str(exc).split())}") from exc
    inside = [PurePosixPath(each.path).relative_to(inner) for each in found if each.type is fs.FileType.File]
    files = sorted(file for file in inside if file.suffix == ".parquet" and not any(p[0] in "._" for p in file.parts))
    if not files:
        raise DataError(f"{address}: the folder holds no .parquet file")
    folder, mark, options = address.partition("?")
    return [Path(f"{folder.rstrip('/')}/{file}{mark}{options}") for file in files]
