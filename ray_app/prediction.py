"""The records of one row's prediction: the validated row, its look-up in the online store, and the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from data.online_store.row_codec import OnlineRow


class Row(NamedTuple):
    """One row of a request that passed validation.

    `entity` is the key in the online store and `key` the row's own id, None when not sent; `encoded` has one float
    per feature in schema order, None where the request has no value; `values` are the values as they were sent.
    """

    entity: str | None
    key: str | int | None
    encoded: list[float | None]
    values: dict[str, Any]


class Lookup(NamedTuple):
    """Result of looking up one row's entity in the online store.

    `online` is the stored row; None when there was no look-up, no row, only an expired one, or the read failed.
    `found` is whether the entity has a row; None without a look-up or when it failed. `age_s` is the age of the
    stored row in s. `degraded` is True when the read failed, so that defaults stand in for stored values.
    """

    online: OnlineRow | None = None
    found: bool | None = None
    age_s: float | None = None
    degraded: bool = False


class Prediction(NamedTuple):
    """Result of scoring one row.

    `probability` is that of the positive class; `stored` is the number of features that came from the online store;
    `vector` has the encoded features that were scored, in schema order.
    """

    row: Row
    probability: float
    lookup: Lookup
    stored: int
    vector: Sequence[float] = ()
