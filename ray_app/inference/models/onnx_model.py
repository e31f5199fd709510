"""A model bundle loaded into ONNX Runtime: takes a float32 matrix, returns the scores of each row."""

from __future__ import annotations

import time

import numpy as np
import onnxruntime

from data.errors import BundleError, SchemaMismatch
from data.transform.encoding import Transform
from ray_app.monitoring.histogram import FINE_SECONDS, Histogram
from tune.registry.bundle import INPUT_NAME, OUTPUT_NAME, Bundle

_PROBE_TOLERANCE = 1e-5


class OnnxModel:
    """A loaded and warmed-up model, checked to score its bundle's probe rows as they were scored in training."""

    def __init__(self, bundle: Bundle) -> None:
        """Load the model and score the bundle's probe rows, which also warms it up.

        Raises:
            BundleError: the ONNX file does not load, or does not score its probe rows as recorded.
            SchemaMismatch: the model's number of inputs is not the schema's number of features.
        """
        self.manifest = bundle.manifest
        self.seconds = Histogram(FINE_SECONDS)
        """Durations of the calls of `score`."""
        self.rows = 0
        """Number of rows scored."""
        self._session = _session(bundle.onnx)
        self.width = len(bundle.manifest.schema_.names)
        """Number of features of a row."""
        self.scored = bundle.manifest.output.width
        """Number of scores of a row."""
        self._check_width()
        self._check_probe()

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Return the scores of each row, float32 of shape (n, `scored`), for float32 of shape (n, k).

        Raises:
            SchemaMismatch: the matrix is not of shape (n, `width`).
        """
        started = time.perf_counter()
        scores = self._score(matrix)
        self.seconds.observe(time.perf_counter() - started)
        self.rows += len(matrix)
        return scores

    def _score(self, matrix: np.ndarray) -> np.ndarray:
        if matrix.ndim != 2 or matrix.shape[1] != self.width:
            raise SchemaMismatch(f"matrix of shape {matrix.shape}, model takes (n, {self.width})")
        (output,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: matrix})
        return np.asarray(output)

    def _check_width(self) -> None:
        shape = self._session.get_inputs()[0].shape
        if isinstance(shape[-1], int) and shape[-1] != self.width:
            raise SchemaMismatch(f"{self.manifest.name}: model takes {shape[-1]} features, schema has {self.width}")

    def _check_probe(self) -> None:
        probe = self.manifest.probe
        try:
            scores = self._score(Transform(self.manifest.schema_).rows(probe.rows))
        except Exception as exc:
            raise BundleError(f"{self.manifest.name}: the model does not score its probe rows: {exc}") from exc
        worst = float(np.max(np.abs(scores - np.array(probe.scores, np.float32).reshape(-1, self.scored)), initial=0.0))
        # `not <=` instead of `>`: a NaN, recorded or scored, must fail too.
        if not worst <= _PROBE_TOLERANCE:
            raise BundleError(f"{self.manifest.name}: probe rows differ from the recorded scores by {worst:.2g}")


def _session(onnx: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # One thread and no spinning: the replicas share the machine's cores, and a row takes microseconds.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise BundleError(f"the ONNX model does not load: {exc}") from exc
