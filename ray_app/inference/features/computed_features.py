"""Features that the service computes: windows, from the event store, and expressions, from other features.

An expression reads float64 values as they were sent, stored or computed, never their float32 codes, with a feature's
declared default where it has none: as `data.feature_views.point_in_time.with_expressions` does for a table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.feature_views.point_in_time import with_expressions
from data.schema.features.expression import Expression
from data.schema.features.feature import Feature, FeatureType
from data.transform.encoding import FeatureEncoder, Transform
from ray_app.prediction import Row, RowWindows
from tune.registry.bundle import BundleManifest


class _Computed(NamedTuple):
    at: int
    encoder: FeatureEncoder
    expression: Expression


class ComputedFeatures:
    """Fills windows and expressions into encoded rows of one model version.

    Args:
        manifest: manifest of the model's bundle.
        transform: encodes values by the manifest's schema.
        stored_index: for each feature, its index in a stored row; None for a feature that the store does not have.
    """

    def __init__(self, manifest: BundleManifest, transform: Transform, stored_index: list[int | None]) -> None:
        schema = manifest.schema_
        at = {name: index for index, name in enumerate(schema.names)}
        self._schema = schema
        self._expressions = [
            _Computed(at[feature.name], transform.encoders[at[feature.name]], Expression(feature.expression or ""))
            for feature in schema.expressions
        ]
        self.read = frozenset(name for each in self._expressions for name in each.expression.names)
        """The features that expressions read."""
        self._windows = [
            (at[window.name], transform.encoders[at[window.name]], window.name if window.name in self.read else None)
            for window in manifest.windows
        ]
        self._places = {
            name: (at[name], stored_index[at[name]], _default(schema.features[at[name]])) for name in self.read
        }
        self._needed = [feature.name for feature in schema.windows]
        self.any = bool(self._windows or self._expressions)
        """Whether the model has such features at all."""

    def fill(
        self, vector: list[float], row: Row, stored: tuple[object, ...] | None, windows: RowWindows | None
    ) -> tuple[float, ...]:
        """Write the codes of the computed features into an encoded row, and return the value of each expression.

        Args:
            vector: k codes in schema order.
            row: the row as it was sent.
            stored: its values from the online store; None without any.
            windows: its windows; None when they could not be had.
        """
        known: dict[str, float] = {}
        values = windows.values if windows is not None else ()
        for value, (at, encoder, read_as) in zip(values, self._windows, strict=False):
            vector[at] = encoder.encode(value)
            if read_as is not None and isinstance(value, float):
                known[read_as] = value
        computed: list[float] = []
        for at, encoder, expression in self._expressions:
            value = expression.value({name: self._number(name, row, stored, known) for name in expression.names})
            vector[at] = encoder.encode(value)
            known[encoder.feature.name] = value
            computed.append(value)
        return tuple(computed)

    def require_windows(self, table: pa.Table) -> None:
        """Raise DataError when a table to be scored lacks the column of a window feature; names all that it lacks."""
        absent = [name for name in self._needed if name not in table.column_names]
        if absent:
            raise DataError(
                f"the table has no column {', '.join(absent)}: a window over events cannot be computed from its row "
                "alone; add them first by 'rayscore features'"
            )

    def with_expressions(self, table: pa.Table, stored: Mapping[str, np.ndarray]) -> pa.Table:
        """Return a table with a column for each expression; one without expressions as it is.

        Args:
            table: n rows, with the columns of all other features.
            stored: online features that expressions read, filled from the store: float64 of shape (n,) by name.
        """
        for name, values in stored.items():
            column = pa.array(values, pa.float64(), mask=np.isnan(values))
            table = table.set_column(table.column_names.index(name), name, column)
        return with_expressions(table, self._schema)

    def _number(self, name: str, row: Row, stored: tuple[object, ...] | None, known: Mapping[str, float]) -> float:
        at, stored_at, default = self._places[name]
        value: object = known.get(name, row.encoded[at])
        if value is None and stored is not None and stored_at is not None:
            value = stored[stored_at]
        number = math.nan if value is None else float(value)  # pyright: ignore[reportArgumentType]  never a category
        return default if math.isnan(number) else number


def _default(feature: Feature) -> float:
    numeric = feature.default is not None and feature.type is not FeatureType.CATEGORY
    return float(feature.default) if numeric else math.nan  # pyright: ignore[reportArgumentType]
