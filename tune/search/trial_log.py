"""The journal of a search: finished trials on disk, so that a killed search goes on where it was."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from data.errors import ConfigError, TrainingFailed
from tune.search.trial import Trial


class TrialLogHead(BaseModel):
    """First line of a journal: what is searched, and the MLflow run it is logged to."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    key: str
    run_id: str
    lag: int
    """Trials that may be under way at once: a resumed search keeps it, since it shapes every later trial."""


class TrialLog:
    """One JSON line for each finished trial, on disk before the trial is counted.

    Every method raises TrainingFailed when the file cannot be written; what was in it stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the journal to this process inside the block; the system lets go of it however the process ends.

        Raises:
            ConfigError: another process has it, or its folder is on a file system that cannot lock.
        """
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_suffix(".lock").open("a")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise ConfigError(
                    f"another search writes to {self.path}: wait for its end, or set RAYSCORE_VAR_DIR to another folder"
                ) from exc
            except OSError as exc:
                # ENOLCK and its like, on a network file system without a lock daemon: it says nothing of who has it.
                raise ConfigError(
                    f"{lock.name} cannot be locked: {exc.strerror}; set RAYSCORE_VAR_DIR to a folder on a local disk"
                ) from exc
            yield

    def start(self, head: TrialLogHead) -> None:
        """Begin anew, forgetting what was there."""
        self._replace([head.model_dump_json()])

    def add(self, trial: Trial) -> None:
        """Append one finished trial."""
        line = trial.model_dump_json().encode() + b"\n"
        with self._writing(), self.path.open("ab", buffering=0) as file:
            whole = file.tell()
            try:
                while line:
                    line = line[file.write(line) :]
                os.fsync(file.fileno())
            except OSError:
                # Half a line would spoil the one after it.
                file.truncate(whole)
                raise

    def read(self, key: str) -> tuple[TrialLogHead, list[Trial]]:
        """Return what an interrupted search left; a line cut short by a crash is dropped, from the file too.

        Raises:
            ConfigError: there is none, or it is of another table, use case, seed or sampler.
        """
        if not self.path.is_file():
            raise ConfigError(f"nothing to resume: {self.path} is not there; start without --resume")
        text = self.path.read_text().splitlines()
        whole = [(line, parsed) for line in text if (parsed := _parse(line)) is not None]
        if not whole or whole[0][1].get("key") != key:
            raise ConfigError(
                f"{self.path} belongs to another search: the table, the use case, the seed or the sampler has changed; "
                "start without --resume"
            )
        try:
            found = TrialLogHead(**whole[0][1]), [Trial(**parsed) for _, parsed in whole[1:]]
        except ValidationError as exc:
            raise ConfigError(f"{self.path} is damaged; start without --resume: {exc}") from exc
        self._replace([line for line, _ in whole])
        return found

    def run_id(self) -> str | None:
        """The MLflow run of the search that the journal is of, whichever that is."""
        with suppress(OSError), self.path.open() as file:
            return (_parse(file.readline()) or {}).get("run_id")
        return None

    def finish(self) -> None:
        """Forget the search: its outcome is registered."""
        self.path.unlink(missing_ok=True)

    def _replace(self, lines: list[str]) -> None:
        partial = self.path.with_suffix(".partial")
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text("\n".join(lines) + "\n")
            os.replace(partial, self.path)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise TrainingFailed(
                f"{self.path} cannot be written: {exc.strerror}; finished trials are kept there. Make room or give "
                "access, then run the same command with --resume"
            ) from exc


def _parse(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:
        return None
