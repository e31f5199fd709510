"""A pandas table as Arrow: the columns that a model reads, with what pandas does to missing integers undone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import DataError, InvalidRow
from data.schema.features.feature import FeatureType
from data.transform.encoding import FeatureEncoder, Transform
from ray_app.batch.refused_rows import Refusals
from tune.registry.bundle import BundleManifest

if TYPE_CHECKING:
    import pandas

_SHOWN = 5


def frame_columns(
    frame: pandas.DataFrame, names: Iterable[str], manifest: BundleManifest, transform: Transform
) -> pa.Table:
    """Return those of the named columns that a frame of n rows has, as an Arrow table of n rows, in order.

    NaN, None, NaT and NA are missing. Whole numbers where words or keys belong are integers again: pandas makes a
    column of integers float64 as soon as one of them is missing.

    Args:
        frame: the raw table.
        names: columns that a model can read, each once.
        manifest: of the model.
        transform: of the manifest's schema.

    Raises:
        DataError: a column holds values of several types; names the column and its first row that does not fit.
    """
    encoders = {encoder.feature.name: encoder for encoder in transform.encoders}
    words = {name for name, encoder in encoders.items() if encoder.feature.type is FeatureType.CATEGORY}
    words |= {*manifest.schema_.texts, *manifest.entity_columns, *([manifest.key] if manifest.key else [])}
    present = [name for name in names if name in frame.columns]
    return pa.table({name: _column(frame[name], name, encoders.get(name), words) for name in present})


def refuse(found: Refusals, rows: int) -> None:
    """Raise DataError when rows are refused, with the numbers, columns and reasons of the first of them.

    Args:
        found: what HTTP would refuse.
        rows: how many there are in all.
    """
    if found.clean:
        return
    refused = np.flatnonzero(found.refused)[:_SHOWN].tolist()
    lines = [f"row {row}: {reasons}" for row, reasons in zip(refused, found.reasons()[:_SHOWN], strict=True)]
    count = found.counts.refused_rows
    more = [f"and {count - len(lines):,} more"] if count > len(lines) else []
    said = f"{count:,} of {rows:,} rows are not valid (rows are counted from 0)"
    raise DataError("\n  ".join([said, *lines, *more]))


def _column(
    values: pandas.Series, name: str, encoder: FeatureEncoder | None, words: Collection[str]
) -> pa.Array | pa.ChunkedArray:
    try:
        column = pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as exc:
        raise DataError(_misfit(values, name, encoder) or f"column '{name}': {exc}") from exc
    return _whole(column) if name in words and pa.types.is_floating(column.type) else column


def _misfit(values: Iterable[Any], name: str, encoder: FeatureEncoder | None) -> str | None:
    """Return what is wrong with the first value that HTTP would refuse, with its row; None when there is none."""
    if encoder is None:
        return None
    for row, value in enumerate(values):
        try:
            if not encoder.is_missing(value):
                encoder.accept(value)
        except InvalidRow as exc:
            return f"row {row}: {name}: {exc.reason} (rows are counted from 0)"
    return None


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return a column of floats as integers, when all of them are whole; else as it is."""
    try:
        return pc.cast(column, pa.int64())
    except pa.ArrowInvalid:
        return column
