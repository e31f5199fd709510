"""A store that is opened now or, while that fails, as soon as it can be: serving starts without it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from data.errors import RayscoreError, StoreError, StoreUnavailable


class Closable(Protocol):
    """A store of any kind."""

    async def ping(self) -> None:
        """Raise StoreUnavailable when the store does not answer."""
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...


Store = TypeVar("Store", bound=Closable)


class StoreOpening(Generic[Store]):
    """Opens a store. While it cannot be opened, a background thread keeps trying.

    Args:
        open_store: opens the store; a StoreError means that it cannot be opened now.
        name: of the store, for messages, such as "online store".
        retry_s: seconds between two attempts to open the store.
    """

    def __init__(self, open_store: Callable[[], Store], name: str, retry_s: float) -> None:
        self._open = open_store
        self._retry_s = retry_s
        self._store: Store | None = None
        self._problem = f"the {name} is not open yet"
        self._closed = threading.Event()
        if not self._try_open():
            threading.Thread(target=self._retry_open, name="open-store", daemon=True).start()

    @property
    def is_open(self) -> bool:
        """True once the store has been opened."""
        return self._store is not None

    @property
    def store(self) -> Store:
        """The open store; raises StoreUnavailable, with the reason, while there is none."""
        if self._store is None:
            raise StoreUnavailable(self._problem)
        return self._store

    def close(self) -> None:
        """Stop the attempts to open the store, and close it."""
        self._closed.set()
        if self._store is not None:
            self._store.close()

    def _try_open(self) -> bool:
        try:
            store = self._open()
        except StoreError as exc:
            self._problem = str(exc)
            return False
        self._store = store
        # `close` may have run on another thread while the store was being opened, and found nothing to close.
        if self._closed.is_set():
            store.close()
        return True

    def _retry_open(self) -> None:
        while not self._closed.wait(self._retry_s):
            try:
                if self._try_open():
                    return
            except RayscoreError as exc:
                # Not only StoreError: a store that answers but refuses, say for a wrong setting, may be repaired later.
                self._problem = str(exc)
