"""The events of a source and the moments of rows, as arrays: what the offline kernel of window features takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

NO_ENTITY = -1
"""Stands for the entity of an event or row that names none: such an event is in no window, such a row sees none."""


class Values(NamedTuple):
    """One value of k events: whole numbers of its last decimal place, or codes of words."""

    scaled: np.ndarray
    """int64 of shape (k,)."""
    missing: np.ndarray
    """Bool of shape (k,)."""
    places: int = 0
    words: tuple[str, ...] | None = None
    """Of text: the words that codes stand for."""


class Events(NamedTuple):
    """The events of one source: k of them, in any order, each key once."""

    entities: Mapping[str, np.ndarray]
    """By entity: its codes, int64 of shape (k,), numbered from 0 as in `Moments`; `NO_ENTITY` where there is none."""
    time_us: np.ndarray
    """int64 of shape (k,), microseconds since 1970 UTC."""
    key_rank: np.ndarray
    """int64 of shape (k,): the order of keys among events and rows together."""
    values: Mapping[str, Values]
    known_us: np.ndarray | None = None
    """int64 of shape (k,): since when each is known; None where that is its time and `delay_us`."""
    delay_us: int = 0


class Moments(NamedTuple):
    """The rows whose windows are wanted: n of them, in any order.

    Where they are the events themselves, one by one, they have the same arrays: then none is looked for.
    """

    entities: Mapping[str, np.ndarray]
    time_us: np.ndarray
    key_rank: np.ndarray
