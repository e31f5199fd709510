"""What the inference path says of one row: the probability, and how it came about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from data.payload import OnlineRow
from ray_app.request import Row


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
