"""Where a value that was scored came from.

Without pydantic, since the prediction log's writer is a process that stays small.
"""

from __future__ import annotations

from enum import Enum


class ValueSource(str, Enum):
    """One of these; `data.schema.features.feature_schema.Source` is what a use case declares."""

    REQUEST = "request"
    ONLINE = "online"
    DEFAULT = "default"
    EVENTS = "events"
    """A window over events."""
    COMPUTED = "computed"
    """An expression over other features."""

    def __str__(self) -> str:
        # Python 3.12 would format "ValueSource.REQUEST".
        return self.value

    @property
    def letter(self) -> str:
        """What stands for it in the prediction log."""
        return self.value[0]
