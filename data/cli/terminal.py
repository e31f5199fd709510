"""Output of every command: its outcome on stdout; progress, notes and errors on stderr; the exit code."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from data.errors import RayscoreError

EXIT_REFUSED = 1
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
_PLAIN_INTERVAL_S = 5.0

err = Console(stderr=True, highlight=False, soft_wrap=True)

# Into a file or a pipe, rich would fold tables at 80 columns.
_out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)

Advance = Callable[[int], None]
"""Called with the number of units done since the last call."""


def say(text: str) -> None:
    """Print a line of the command's outcome on stdout, as it is: rich would replace `:names:` of emojis in it."""
    sys.stdout.write(f"{text}\n")
    # In a file that takes both streams, the lines stay in order.
    sys.stdout.flush()


def say_json(value: object) -> None:
    """Print a JSON document on one line of stdout; NaN and infinities, which JSON does not have, as null.

    Args:
        value: dictionaries, lists, and scalars; what JSON has no type for is printed as its text.
    """
    say(json.dumps(_without_infinities(value), ensure_ascii=False, allow_nan=False, default=str))


def show_table(table: Table) -> None:
    """Print a table of the command's outcome on stdout."""
    _out.print(table)


@contextmanager
def progress(title: str, total: int | None, unit: str = "rows") -> Iterator[Advance]:
    """Show progress with a rate on stderr: a bar on a terminal, else a line every few seconds and at the end."""
    if err.is_terminal:
        with _bar(unit) as bar:
            task = bar.add_task(title, total=total, rate="")
            started = time.monotonic()

            def advance(count: int) -> None:
                bar.advance(task, count)
                rate = bar.tasks[task].completed / max(time.monotonic() - started, 1e-9)
                bar.update(task, rate=f"{rate:,.0f} {unit}/s")

            yield advance
        return
    lines = _PlainProgress(title, total, unit)
    yield lines.advance
    lines.finish()


def _bar(unit: str) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=err)


class _PlainProgress:
    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done = 0
        self._started = self._shown = time.monotonic()

    def advance(self, count: int) -> None:
        self._done += count
        if time.monotonic() - self._shown >= _PLAIN_INTERVAL_S:
            self._shown = time.monotonic()
            self._line()

    def finish(self) -> None:
        self._line()

    def _line(self) -> None:
        of = f" of {self._total:,}" if self._total else ""
        seconds = time.monotonic() - self._started
        rate = f"{self._done / max(seconds, 1e-9):,.0f} {self._unit}/s"
        note(f"{self._title}: {self._done:,}{of} {self._unit}, {rate}, {seconds:.1f} s")


def counted(count: int, one: str, many: str) -> str:
    """Return a count with its noun: "1 entity", "1,200 entities"."""
    return f"{count:,} {one if count == 1 else many}"


def note(text: str) -> None:
    """Print a line on stderr: what the command does, as opposed to its outcome."""
    err.print(text, markup=False)


def note_all(lines: Iterable[str]) -> None:
    """Print lines on stderr."""
    for line in lines:
        note(line)


def run_cli(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Run a command and return its exit code; whatever it raises becomes one message and `ended`'s code."""
    try:
        return main(argv)
    except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001  the last handler: a user sees no traceback
        return ended(exc, argv)


def ended(exc: BaseException, argv: Sequence[str]) -> int:
    """Say on stderr what ended a command, and return its exit code: 2, or 130 when it was interrupted.

    An error of ours speaks for itself. Of any other the user gets what went wrong, what to do, and the path of a file
    with the rest (`data.cli.crash_report`).

    Args:
        exc: what the command raised.
        argv: the words after the program's name.
    """
    try:
        return _ended(exc, argv)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception:  # noqa: BLE001  the report itself failed, as it does without memory
        note(f"error: {type(exc).__name__}, and no report of it could be written")
        return EXIT_ERROR


def _ended(exc: BaseException, argv: Sequence[str]) -> int:
    # A library that is interrupted while it is imported says that it could not be imported.
    if any(isinstance(each, KeyboardInterrupt) for each in (exc, exc.__cause__, exc.__context__)):
        note("interrupted; what was complete is kept")
        return EXIT_INTERRUPTED
    if isinstance(exc, BrokenPipeError) and stdout_is_gone():
        return EXIT_ERROR
    if isinstance(exc, RayscoreError) and _is_plain(str(exc)):
        _say_error(str(exc))
        return EXIT_ERROR
    # Loaded when it is needed: it reads the settings, which a command in a hurry does not wait for.
    crash_report = importlib.import_module("data.cli.crash_report")
    crash_report.tell(exc, argv, _say_error)
    return EXIT_ERROR


def stdout_is_gone() -> bool:
    """Return whether the reader of stdout has left, as `head` does; then nothing more is written to it."""
    try:
        sys.stdout.flush()
        gone = _is_broken(sys.stdout.fileno())
    except (OSError, ValueError) as exc:
        gone = isinstance(exc, BrokenPipeError)
        # Python flushes once more at exit, and would tell of that failure too.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def _is_broken(pipe: int) -> bool:
    state = select.poll()
    state.register(pipe, 0)
    return any(event & select.POLLERR for _, event in state.poll(0))


def _is_plain(text: str) -> bool:
    return "Traceback (most recent call last)" not in text and "\x1b[" not in text


def _say_error(text: str) -> None:
    err.print(f"error: {text}", markup=False, style="red")


def _without_infinities(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_infinities(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinities(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
