"""What one trial of a search came to, and the journal that keeps finished trials over an interruption."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from data.errors import ConfigError
from tune.train import best_round


class Trial(BaseModel):
    """A finished trial. `history` and `losses` are metric and log loss on the validation rows after each round."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    number: int
    params: dict[str, Any]
    history: list[float]
    losses: list[float]
    seconds: float
    stopped_early: bool
    """True when ASHA ended it for being worse than others at the same round."""

    @property
    def score(self) -> float:
        """Its best metric."""
        return max(self.history)

    @property
    def rounds(self) -> int:
        """Rounds up to the best one."""
        return best_round(self.history, self.losses) + 1

    @property
    def loss(self) -> float:
        """The log loss at its best round."""
        return self.losses[self.rounds - 1]


def best_trial(trials: Sequence[Trial]) -> Trial:
    """The trial with the best score; of equal ones the smallest log loss, then the first by number."""
    return max(trials, key=lambda trial: (trial.score, -trial.loss, -trial.number))


class JournalHead(BaseModel):
    """First line of a journal: what is searched, and the MLflow run it is logged to."""

    model_config = ConfigDict(frozen=True)

    key: str
    run_id: str


class Journal:
    """Finished trials, one JSON line each, on disk before the next one is counted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, head: JournalHead) -> None:
        """Begin anew, forgetting what was there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(head.model_dump_json() + "\n")
        os.replace(partial, self.path)

    def add(self, trial: Trial) -> None:
        """Append one finished trial."""
        with self.path.open("a") as file:
            file.write(trial.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self, key: str) -> tuple[JournalHead, list[Trial]]:
        """Return what an interrupted search left; a line cut short by a crash is dropped.

        Raises:
            ConfigError: there is none, or it is of another table, use case or seed.
        """
        if not self.path.is_file():
            raise ConfigError(f"nothing to resume: {self.path} is not there; start without --resume")
        lines = [_parse(line) for line in self.path.read_text().splitlines()]
        if not lines or lines[0] is None or lines[0].get("key") != key:
            raise ConfigError(
                f"{self.path} belongs to another search: the table, the use case or the seed has changed; "
                "start without --resume"
            )
        try:
            return JournalHead(**lines[0]), [Trial(**line) for line in lines[1:] if line is not None]
        except ValidationError as exc:
            raise ConfigError(f"{self.path} is damaged; start without --resume: {exc}") from exc

    def finish(self) -> None:
        """Forget the search: its outcome is registered."""
        self.path.unlink(missing_ok=True)


def _parse(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:
        return None
