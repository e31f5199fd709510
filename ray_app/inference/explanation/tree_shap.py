"""Exact TreeSHAP contributions of a bundle's booster (Lundberg et al. 2020, "From local explanations to global
understanding with explainable AI for trees"; path-dependent, as XGBoost's `pred_contribs` computes them).

The one module of serving that imports XGBoost: processes that explain load it by its name, see
`ray_app.inference.explanation.explanation_stage.load_explainer`.
"""

from __future__ import annotations

import time

import numpy as np
import xgboost

from data.errors import BundleError, SchemaMismatch
from data.transform.encoding import Transform
from ray_app.monitoring.histogram import SECONDS, Histogram
from tune.registry.bundle import Bundle

_MOST_ROUNDING = 1e-4
"""Largest part of the contributions' absolute sum by which float32 may miss the margin: some 40 times what is seen."""


class TreeShap:
    """A bundle's booster, loaded, warmed up, and checked to explain its probe rows."""

    def __init__(self, bundle: Bundle) -> None:
        """Load the booster and explain the bundle's probe rows.

        Raises:
            BundleError: the booster does not load, has several margins a row, or its contributions do not add up to
                its margins.
            SchemaMismatch: the booster's number of features is not the schema's.
        """
        self.manifest = bundle.manifest
        self.width = len(bundle.manifest.schema_.names)
        self.seconds = Histogram(SECONDS)
        """Durations of the calls of `explain`."""
        self.rows = 0
        """Number of rows explained."""
        self._booster = _load(bundle)
        if self._booster.num_features() != self.width:
            raise SchemaMismatch(
                f"{self.manifest.name}: booster takes {self._booster.num_features()} features, schema has {self.width}"
            )
        self._explain(Transform(self.manifest.schema_).rows(self.manifest.probe.rows))

    def explain(self, matrix: np.ndarray) -> np.ndarray:
        """Return base value, margin and contributions in the unit of the margin, float64 of shape (n, 2 + k).

        Contributions are in schema order; base value and contributions of a row add up to its margin to float64's
        precision. XGBoost computes them and the margin in float32: what they differ by is spread over the
        contributions in proportion to their size, so that none changes by more than float32 has rounded it.

        Args:
            matrix: the encoded rows that were scored, float32 of shape (n, k), NaN = missing.

        Raises:
            SchemaMismatch: the matrix is not of shape (n, `width`).
        """
        started = time.perf_counter()
        explained = self._explain(matrix)
        self.seconds.observe(time.perf_counter() - started)
        self.rows += len(matrix)
        return explained

    def _explain(self, matrix: np.ndarray) -> np.ndarray:
        if matrix.ndim != 2 or matrix.shape[1] != self.width:
            raise SchemaMismatch(f"matrix of shape {matrix.shape}, booster takes (n, {self.width})")
        if not len(matrix):
            return np.empty((0, 2 + self.width))
        booster = self._booster
        rows = xgboost.DMatrix(matrix, feature_types=booster.feature_types, enable_categorical=True, nthread=1)
        margin = booster.predict(rows, output_margin=True).astype(np.float64)
        found = booster.predict(rows, pred_contribs=True).astype(np.float64)
        if margin.ndim != 1 or found.ndim != 2:
            raise BundleError(f"{self.manifest.name}: only models of one margin a row are explained")
        base, contributions = found[:, -1], found[:, :-1]
        return np.column_stack([base, margin, self._additive(base, margin, contributions)])

    def _additive(self, base: np.ndarray, margin: np.ndarray, contributions: np.ndarray) -> np.ndarray:
        """Return the contributions, float64 of shape (n, k), with float32's rounding spread over them."""
        sizes = np.abs(contributions)
        total = sizes.sum(axis=1)
        rounding = margin - base - contributions.sum(axis=1)
        most = _MOST_ROUNDING * (total + np.abs(base))
        # `not <=` instead of `>`: a NaN must fail too.
        if not (np.abs(rounding) <= most).all():
            worst = float(np.max(np.abs(rounding)))
            raise BundleError(f"{self.manifest.name}: contributions miss the margin by {worst:.2g}")
        share = np.divide(sizes, total[:, None], out=np.zeros_like(sizes), where=total[:, None] > 0)
        return contributions + rounding[:, None] * share


def _load(bundle: Bundle) -> xgboost.Booster:
    # One thread: the replicas share the machine's cores.
    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(bundle.booster))
    except xgboost.core.XGBoostError as exc:
        raise BundleError(f"{bundle.manifest.name}: the booster does not load: {exc}") from exc
    booster.set_param({"nthread": 1})
    return booster
