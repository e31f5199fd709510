"""The raw columns that a model can read of a table, and what MLflow's model makes of the answers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tune.registry.bundle import BundleManifest

HISTORY = "history"
EVENTS = "events"
"""Parameters of a prediction: the path of earlier rows of the table; texts SOURCE=PATH of events beside it."""


def widened(values: np.ndarray) -> np.ndarray:
    """Return a column of answers in MLflow's types: float64 for numbers, int64 for whole ones, words as they are.

    A float32 keeps its value as float64, which is what JSON carries.
    """
    return values.astype({"f": np.float64, "i": np.int64}.get(values.dtype.kind, values.dtype))


class RawColumn(NamedTuple):
    """A column of the raw table."""

    name: str
    holds: str
    """The type that is declared of it, or what it is for."""
    required: bool = False
    """Whether no row can be scored without it."""


def raw_columns(manifest: BundleManifest) -> list[RawColumn]:
    """Return the columns that a model can read, each once: those of features, windows, entity and events, in order."""
    schema, found = manifest.schema_, dict[str, RawColumn]()
    for feature in schema.features:
        for name in feature.inputs:
            required = feature.required or (name in found and found[name].required)
            holds = "time" if feature.derive else "text" if feature.score else feature.type.value
            found[name] = RawColumn(name, holds, required)
    for feature in schema.windows:
        found[feature.name] = RawColumn(feature.name, f"{feature.type.value}, a window over events")
    for name, holds in _context(manifest):
        found.setdefault(name, RawColumn(name, holds))
    return list(found.values())


def _context(manifest: BundleManifest) -> list[tuple[str, str]]:
    """Return the columns that say whose row it is and when, and those of events that are rows of the table."""
    columns = [(name, "entity") for name in manifest.entity_columns]
    if manifest.schema_.windows:
        columns += [(name, "key or time") for name in (manifest.key, manifest.event_time) if name is not None]
        for source in manifest.events.values():
            names = [*source.values, *([source.known_at] if source.known_at else [])] if source.own else []
            columns += [(name, "value of an event") for name in names]
    return columns
