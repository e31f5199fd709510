"""The explanations of a table's rows as a column of the output: as HTTP answers them, a struct a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from data.schema.features.feature import Feature, FeatureType
from data.schema.reason_codes import ReasonCodes
from ray_app.inference.explanation.explanation_stage import LEADING, load_explainer
from ray_app.inference.explanation.reasons import reason_features
from tune.registry.bundle import Bundle, BundleManifest

EXPLANATION = "explanation"
"""Column of the output."""
_BLOCK_ROWS = 8_192
_REASON = pa.struct(
    [("feature", pa.string()), ("value", pa.string()), ("contribution", pa.float64()), ("text", pa.string())]
)


def explanation_type(manifest: BundleManifest) -> pa.DataType:
    """Return the type of the column: base value and margin, contributions by feature, and the reasons."""
    contributions = pa.struct([(name, pa.float64()) for name in manifest.schema_.names])
    return pa.struct(
        [
            ("base_value", pa.float64()),
            ("margin", pa.float64()),
            ("contributions", contributions),
            ("reasons", pa.list_(_REASON)),
        ]
    )


class RowExplainer:
    """Explains encoded rows in this process, which loads XGBoost.

    Args:
        bundle: the model that scores the rows.
        codes: the reason codes of its use case.

    Raises:
        BundleError, SchemaMismatch: the bundle's booster does not load, or does not explain its probe rows.
    """

    def __init__(self, bundle: Bundle, codes: ReasonCodes) -> None:
        self._explainer = load_explainer(bundle)
        self._codes = codes
        self._features = bundle.manifest.schema_.features
        self._type = explanation_type(bundle.manifest)

    def column(self, matrix: np.ndarray) -> pa.ChunkedArray:
        """Return the column of n rows, from what the model scored, float32 of shape (n, k)."""
        starts = range(0, len(matrix), _BLOCK_ROWS)
        return pa.chunked_array([self._block(matrix[at : at + _BLOCK_ROWS]) for at in starts], self._type)

    def _block(self, matrix: np.ndarray) -> pa.StructArray:
        explained = self._explainer.explain(matrix)
        contributions = explained[:, LEADING:]
        found = [self._reasons(*each) for each in zip(matrix, contributions, strict=True)]
        by_feature = pa.StructArray.from_arrays(
            [pa.array(column) for column in contributions.T], [feature.name for feature in self._features]
        )
        leading = [pa.array(column) for column in explained[:, :LEADING].T]
        reasons = pa.array(found, pa.list_(_REASON))
        return pa.StructArray.from_arrays([*leading, by_feature, reasons], fields=list(self._type))

    def _reasons(self, row: np.ndarray, contributions: np.ndarray) -> Sequence[dict[str, str | float | None]]:
        return [
            {
                "feature": self._features[i].name,
                "value": value_text(self._features[i], row[i]),
                "contribution": float(contributions[i]),
                "text": self._codes.text(self._features[i].declared_name),
            }
            for i in reason_features(contributions, self._codes.top)
        ]


def value_text(feature: Feature, encoded: np.float32) -> str | None:
    """Return an encoded value as text: a category's word, a number as float32 has it; None when it was missing.

    A category that the model does not know was scored as missing.
    """
    if np.isnan(encoded):
        return None
    if feature.vocabulary is not None:
        return feature.vocabulary[int(encoded)]
    if feature.type is FeatureType.BOOLEAN:
        return "true" if encoded else "false"
    # The shortest text that reads back as the same float32; whole numbers without a fraction.
    return np.format_float_positional(encoded, trim="-")
