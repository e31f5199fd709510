"""File systems behind URLs such as `s3://bucket/folder`, from PyArrow or fsspec.

A URL may be carried in a `Path`, which merges its two slashes into one ("s3:/bucket/folder"); `url` restores it. So
every option and signature that takes a path takes a URL as well.
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
    """Return the URL that `path` stands for, or None for a path on this machine."""
    match = _URL.fullmatch(str(path))
    if not match:
        return None
    scheme, rest = match.groups()
    # A file URL has no host: three slashes.
    return f"{scheme}://{'/' if scheme in _HERE else ''}{rest}"


def absolute(path: Path) -> Path:
    """Return the path in a form that holds in any working directory: absolute, or the URL as it is."""
    return path if url(path) else path.absolute()


def locate(path: Path | str) -> tuple[fs.FileSystem, str]:
    """Return the file system that a URL names, and the path within it.

    PyArrow's own file systems (s3, gs, hdfs, abfs, file) come first; fsspec's take the rest.

    Raises:
        DataError: the scheme is unknown, its driver is not installed, or the URL is malformed.
    """
    address = url(path) or str(path)
    try:
        return fs.FileSystem.from_uri(address)
    except (pa.ArrowException, ValueError):
        pass
    try:
        system, inner = fsspec.core.url_to_fs(address)
        return fs.PyFileSystem(fs.FSSpecHandler(system)), str(inner)
    except (ValueError, ImportError, OSError) as exc:
        raise DataError(f"{address}: no file system for this address: {' '.join(str(exc).split())}") from exc


def parquet_urls(path: Path | str) -> list[Path]:
    """Return a URL's file, or the `*.parquet` files of its folder in name order, hidden ones left out.

    Raises:
        DataError: nothing is there, the folder holds no Parquet file, or it cannot be listed.
    """
    address = url(path) or str(path)
    system, inner = locate(path)
    try:
        kind = system.get_file_info(inner).type
        if kind is fs.FileType.File:
            return [Path(address)]
        if kind is fs.FileType.NotFound:
            raise DataError(f"{address}: no such file or folder")
        entries = system.get_file_info(fs.FileSelector(inner, recursive=True))
    except (pa.ArrowException, OSError) as exc:
        raise DataError(f"{address}: cannot be listed: {' '.join(str(exc).split())}") from exc
    inside = [PurePosixPath(entry.path).relative_to(inner) for entry in entries if entry.type is fs.FileType.File]
    files = sorted(file for file in inside if file.suffix == ".parquet" and not any(p[0] in "._" for p in file.parts))
    if not files:
        raise DataError(f"{address}: the folder holds no .parquet file")
    # Options in the query (endpoint, region) belong to the file system: each file's URL needs them.
    folder, mark, options = address.partition("?")
    return [Path(f"{folder.rstrip('/')}/{file}{mark}{options}") for file in files]
