"""The error tree. It knows nothing of HTTP statuses or exit codes: the HTTP API and the commands translate.

RayscoreError
+-- ConfigError            a use-case file or a setting is wrong
+-- DataError              a file or table is not what was declared
+-- InvalidRow             a row sent by a client is refused (carries the field)
+-- StoreError             the online store answered with an error
|   +-- StoreUnavailable   the online store could not be reached in time
+-- ModelError             a model bundle or a registry entry is wrong
|   +-- BundleError        a model bundle is missing a file, half-written, or not what its booster says
|   +-- ModelNotFound      the registry has no such model, version or alias
|   +-- RegistryUnavailable  the registry could not be reached
|   |   +-- RegistryRefused  the registry was reached and said no
|   +-- PromotionConflict  the champion changed while a version was judged against it
|   +-- SchemaMismatch     two sides were built from different feature schemas
|   +-- VersionUnavailable no replica that answers holds the version
+-- ServiceError           a running service does not answer, or not as it was asked
+-- TrainingFailed         the search or the distributed fit was lost or refused
+-- ControlUnavailable     Control does not answer; what is served goes on
+-- Overloaded             the service is full; try again later
+-- DeadlineExceeded       the time allowed for a request is spent
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pydantic import ValidationError


class RayscoreError(Exception):
    """Base of every error this project raises on purpose; its text is fit for a user."""


class ConfigError(RayscoreError):
    """A use-case file or a setting is wrong."""


class DataError(RayscoreError):
    """A file or table is not what was declared."""


class DamagedRow(DataError):
    """A stored row's bytes are not what was written: cut short, or not text where text belongs."""


class InvalidRow(RayscoreError):
    """A row sent by a client is refused.

    Args:
        field: the JSON member at fault, or None when the row as a whole is.
        reason: what is wrong and what was expected.
    """

    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(reason if field is None else f"{field or repr(field)}: {reason}")
        self.field = field
        self.reason = reason


class StoreError(RayscoreError):
    """The online store answered with an error."""


class StoreUnavailable(StoreError):
    """The online store could not be reached in time."""


class ModelError(RayscoreError):
    """A model bundle or a registry entry is wrong."""


class BundleError(ModelError):
    """A model bundle is missing a file, half-written, of another format, or not what its booster says."""


class ModelNotFound(ModelError):
    """The registry has no such model, version or alias."""


class RegistryUnavailable(ModelError):
    """The registry could not be reached."""


class RegistryRefused(RegistryUnavailable):
    """The registry was reached and refused; asking again does not help."""


class PromotionConflict(ModelError):
    """The champion changed while a version was judged against it; nothing was promoted."""


class SchemaMismatch(ModelError):
    """Two sides were built from different feature schemas."""


class VersionUnavailable(ModelError):
    """No replica that answers holds the version."""


class ServiceError(RayscoreError):
    """A running service does not answer, or answers with an error."""


class ServiceUnreachable(ServiceError):
    """A running service does not answer, or says that it cannot now: asking again may help."""


class TrainingFailed(RayscoreError):
    """The search or the distributed fit was lost or refused; nothing was registered."""


class ControlUnavailable(RayscoreError):
    """Control does not answer; what is served goes on."""


class Overloaded(RayscoreError):
    """The service is full; try again later."""


class DeadlineExceeded(RayscoreError):
    """The time allowed for a request is spent."""


class Fault(NamedTuple):
    """What pydantic found wrong: the keys that lead to it, pydantic's name for its kind, and the reason in words."""

    path: tuple[str, ...]
    kind: str
    reason: str

    @property
    def place(self) -> str:
        """The keys joined by points; empty when the whole is at fault."""
        return ".".join(self.path)

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}" if self.path else self.reason


def faults(exc: ValidationError) -> list[Fault]:
    """All that pydantic found wrong, one at least, in its order."""
    return [
        Fault(tuple(map(str, each["loc"])), each["type"], each["msg"].removeprefix("Value error, "))
        for each in exc.errors()
    ]


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Have a DataError of the block, which is about some values alone, name the file or table that they are of."""
    try:
        yield
    except DataError as exc:
        raise DataError(f"{place}: {exc}") from exc


def disk_error(folder: Path, exc: OSError, outcome: str = "nothing was kept") -> DataError:
    """Return the DataError for a failed write to `folder`; `outcome` says what became of the work."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(
            f"{folder}: the disk is full; {outcome}. Free some, or set RAYSCORE_VAR_DIR to a folder elsewhere"
        )
    return DataError(f"{folder}: cannot be written: {exc.strerror or exc}")
