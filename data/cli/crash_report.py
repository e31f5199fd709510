"""The report of a crash: what ended a command unforeseen, in plain words for the user and as a file for its makers.

The file has what a maker needs: traceback, versions, settings and the command as it was typed. Secrets are masked.
"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import re
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from data.cli.process_hooks import noise
from data.errors import RayscoreError
from data.settings import PREFIX, Settings, load_settings

_LIBRARIES = ("rayscore", "ray", "pyarrow", "mlflow", "xgboost", "onnxruntime", "pydantic", "cassandra-driver")
_SECRET_WORD = re.compile(r"token|password|secret|key\b|credential", re.I)
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_SECRET_OPTION = re.compile(r"(--?[\w-]*(?:token|password|secret|key)[\w-]*[= ])(\S+)", re.I)
_MASK = "***"
# What libraries put in front of their own words: the class with its modules, and the colours of a terminal.
_CLASS_NAME = re.compile(r"^(?:\((?:[a-z_]\w*\.)+[A-Z]\w*\)|(?:[a-z_]\w*\.)+[A-Z]\w*:)\s*")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST = 400
_TRACEBACK = "Traceback (most recent call last)"

_TO_DO: dict[int, str] = {
    errno.EACCES: "give this user access to it, or name another place (RAYSCORE_VAR_DIR moves the run-time files)",
    errno.EPERM: "give this user access to it, or name another place (RAYSCORE_VAR_DIR moves the run-time files)",
    errno.EROFS: "name a place that can be written (RAYSCORE_VAR_DIR moves the run-time files)",
    errno.ENOSPC: "free some space, or name another disk (RAYSCORE_VAR_DIR moves the run-time files)",
    errno.EDQUOT: "free some space, or name another disk (RAYSCORE_VAR_DIR moves the run-time files)",
    errno.ENOENT: "check the path: it is not there",
    errno.EISDIR: "name a file: this is a folder",
    errno.ENOTDIR: "check the path: a part of it is a file, not a folder",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.EADDRINUSE: "stop what listens there, or set another port",
    errno.ECONNREFUSED: "check that the server runs and that the address in the settings is its own",
    errno.EIO: "check the disk: it fails to read or write",
}


class Explanation(NamedTuple):
    """What went wrong, and what the user can do about it, each in one line."""

    what: str
    to_do: str


_REGISTRY = Explanation(
    "the registry cannot be used", f"check {PREFIX}MLFLOW_TRACKING_URI, or the file mlflow.db in the var folder"
)
_NETWORK = Explanation("a server does not answer as it should", "check that it runs, and the address in the settings")
_LIBRARIES_SAY = {
    "pyarrow": Explanation("a table cannot be read or written", "check the file that the command names"),
    "sqlite3": Explanation(
        "a SQLite file is damaged, locked or not one",
        "in the var folder, mlflow.db is the registry and online.db the store: move the damaged one away, or put an "
        "earlier copy in its place",
    ),
    "mlflow": _REGISTRY,
    "sqlalchemy": _REGISTRY,
    "alembic": _REGISTRY,
    "cassandra": Explanation("Cassandra refuses", f"check the {PREFIX}CASSANDRA_* settings, and the nodes"),
    "ray": Explanation("Ray failed", "check the memory and disk of the machine, or of the cluster at RAY_ADDRESS"),
    "httpx": _NETWORK,
    "requests": _NETWORK,
    "urllib3": _NETWORK,
}


def tell(exc: BaseException, argv: Sequence[str], say: Callable[[str], None]) -> None:
    """Tell the user what ended a command unforeseen, and write its report.

    Args:
        exc: what the command raised.
        argv: the words after the program's name.
        say: prints an error's text.
    """
    ours = next((each for each in reversed(list(causes(exc))) if isinstance(each, RayscoreError)), None)
    command = [*_program(), *argv]
    found = Explanation(_our_words(str(ours)), "") if ours else explain(exc)
    path = write_report(exc, command, tuple(noise))
    where = f"full report: {path}" if path else "no report could be written, in the var folder or the temporary one"
    lines = [f"{found.what} (in `{shlex.join(command)}`)", found.to_do, where]
    say(_masked("\n".join(filter(None, lines)), _settings()))


def causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it was raised from, the innermost last; Ray's carry a worker's as `cause`."""
    seen: set[int] = set()
    found: BaseException | None = exc
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        inner = getattr(found, "cause", None) or found.__cause__
        group = getattr(found, "exceptions", None)
        if inner is None and isinstance(group, (tuple, list)) and group:
            inner = group[0]
        found = inner if isinstance(inner, BaseException) else None


def explain(exc: BaseException) -> Explanation:
    """Say in plain words what an unforeseen exception means, by its innermost cause."""
    chain = list(causes(exc))
    for each in reversed(chain):
        known = _known(each)
        if known:
            return known
    innermost = chain[-1]
    words = plain(str(innermost))
    kind = type(innermost).__name__
    return Explanation(
        f"{kind}: {words}" if words else kind, "this is a fault of rayscore, not of your input: send the report"
    )


def _known(exc: BaseException) -> Explanation | None:
    if isinstance(exc, MemoryError) or type(exc).__name__ == "OutOfMemoryError":
        return Explanation(
            "the memory of this machine was not enough",
            "close other programs, use fewer rows or a larger machine; `rayscore tune` keeps within "
            f"{PREFIX}TRAIN_MEMORY_MB",
        )
    if isinstance(exc, RecursionError):
        return Explanation("the input is nested too deeply to be read", "use a table or file with fewer levels")
    if isinstance(exc, UnicodeError):
        return Explanation(f"bytes that are not text in UTF-8: {plain(str(exc))}", "save the file as UTF-8")
    if isinstance(exc, ImportError):
        return Explanation(
            f"a part of the installation cannot be loaded: {plain(str(exc))}", "install rayscore anew: `make install`"
        )
    if isinstance(exc, OSError) and exc.errno is not None:
        # pyarrow says all in the text of its own.
        place = "" if exc.filename is None else f"{exc.filename}: "
        said = exc.strerror if exc.filename is not None and exc.strerror else plain(str(exc))
        return Explanation(f"{place}{said}", _TO_DO.get(exc.errno, "check the place that is named"))
    library = _LIBRARIES_SAY.get(type(exc).__module__.partition(".")[0])
    return library and Explanation(f"{library.what}: {plain(str(exc))}", library.to_do)


def _our_words(text: str) -> str:
    return plain(text) if _TRACEBACK in text else text


def plain(text: str) -> str:
    """Return the words of an exception's text in one line: no traceback, no path of a class, no colours."""
    lines = [line.strip() for line in _COLOURS.sub("", text).splitlines() if line.strip()]
    if any(line.startswith(_TRACEBACK) or " ray::" in f" {line}" for line in lines):
        # What a worker wrote ends with the exception itself.
        lines = lines[-1:]
    words = _CLASS_NAME.sub("", " ".join(lines))
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]} ..."


def write_report(exc: BaseException, command: Sequence[str], aside: Sequence[str] = ()) -> Path | None:
    """Write the report and return its path; None when neither the var folder nor the temporary one can be written.

    Args:
        exc: what ended the command.
        command: the program and its words, as typed.
        aside: what was raised where nobody could handle it, such as in a thread.
    """
    settings = _settings()
    text = _masked(_report(exc, command, aside, settings), settings)
    name = f"{time.strftime('%Y%m%dT%H%M%S')}-{_name(command)}-{os.getpid()}.txt"
    folders = [] if settings is None else [settings.var_dir / "reports"]
    for folder in (*folders, Path(tempfile.gettempdir()) / "rayscore-reports", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / name
            path.write_text(text, "utf-8", errors="backslashreplace")
        except OSError:
            continue
        return path
    return None


def _program() -> list[str]:
    """The program as it was typed, without its folder."""
    script = Path(sys.argv[0] or "python")
    return ["python", "-m", script.parent.name] if script.name == "__main__.py" else [script.name]


def _settings() -> Settings | None:
    try:
        return load_settings()
    except (RayscoreError, OSError):
        return None


def _report(exc: BaseException, command: Sequence[str], aside: Sequence[str], settings: Settings | None) -> str:
    parts = [
        f"command: {shlex.join(command)}",
        f"folder: {_working_directory()}",
        f"time: {time.strftime('%Y-%m-%dT%H:%M:%S%z')}",
        "",
        "".join(traceback.format_exception(type(exc), exc, exc.__traceback__)),
        "versions",
        f"  python {sys.version.split()[0]}, {platform.platform()}, {os.cpu_count()} CPUs",
        *(f"  {name} {_version(name)}" for name in _LIBRARIES),
        "settings",
        *_setting_lines(settings),
        "environment",
        *(f"  {name}={_shown(name, value)}" for name, value in sorted(os.environ.items()) if name.startswith("RAY")),
    ]
    return "\n".join([*parts, *(f"aside\n{each}" for each in aside)]) + "\n"


def _setting_lines(settings: Settings | None) -> list[str]:
    if settings is None:
        return ["  not readable"]
    # Secrets are of pydantic's own type, which shows stars.
    return [f"  {name}={value}" for name, value in settings if name in settings.model_fields_set]


def _shown(name: str, value: str) -> str:
    return _MASK if _SECRET_WORD.search(name) else value


def _masked(text: str, settings: Settings | None) -> str:
    """The text without users and passwords in addresses, without secret options, and without any secret's value."""
    secrets = {value for name, value in os.environ.items() if _SECRET_WORD.search(name) and len(value) >= 8}
    for _, value in settings or ():
        reveal = getattr(value, "get_secret_value", None)
        if reveal:
            secrets.add(reveal())
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, _MASK)
    return _SECRET_OPTION.sub(rf"\1{_MASK}", _USER_IN_URL.sub(_MASK, text))


def _name(command: Sequence[str]) -> str:
    words = command[3:] if command[:2] == ["python", "-m"] else command[1:]
    word = next((word for word in words if not word.startswith("-")), "rayscore")
    return re.sub(r"[^\w.-]+", "_", word)[:40]


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "(gone)"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
