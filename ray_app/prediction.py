"""One row on its way: as it was accepted, what the online store had of it, and what was predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from data.online_store.row_codec import OnlineRow


class Row(NamedTuple):
    """One accepted row.

    `encoded` holds a float per feature in schema order, None where the request has no value;
    `values` holds the raw values that were sent.
    """

    entity: str | None
    key: Any
    encoded: list[float | None]
    values: dict[str, Any]


class Lookup(NamedTuple):
    """What the online store said of one row.

    `online` is None when the store was not asked, had nothing, failed, or only had an expired row;
    `found` says whether it knew the entity, None when it was not asked or failed.
    """

    online: OnlineRow | None = None
    found: bool | None = None
    age_s: float | None = None
    degraded: bool = False


class Prediction(NamedTuple):
    """The answer for one row.

    `stored` is the number of its features that the store supplied; `vector` is what was scored, in schema order.
    """

    row: Row
    probability: float
    lookup: Lookup
    stored: int
    vector: Sequence[float] = ()
