"""Names of scratch stores: what a proof writes for itself, beside what is live, and may empty."""

from __future__ import annotations

import hashlib
from pathlib import Path

from data.errors import StoreError

_ENDING = ".scratch"


def scratch_name(name: str) -> str:
    """Return the name of the scratch store beside that of a use case or view, neither of which may end like it."""
    return name + _ENDING


def is_scratch(name: str) -> bool:
    """Return whether a use case or view is named as a scratch store."""
    return name.endswith(_ENDING)


def require_scratch(name: str) -> None:
    """Raise StoreError unless the store of this name may be emptied."""
    if not is_scratch(name):
        raise StoreError(f"the store of '{name}' is live and cannot be emptied: only one named '...{_ENDING}' can")


def scratch_file(path: Path, name: str) -> Path:
    """Return the file of a store: for a scratch store one of its own, since live answers would wait for its writers."""
    return path.with_name(f"{path.stem}{_ENDING}{path.suffix}") if is_scratch(name) else path


def scratch_table(table: str, name: str) -> str:
    """Return the table of a store: one of its own for each scratch store, which is emptied as a whole."""
    if not is_scratch(name):
        return table
    return f"{table}_scratch_{hashlib.blake2b(name.encode(), digest_size=6).hexdigest()}"
