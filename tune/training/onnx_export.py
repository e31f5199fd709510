"""Export of XGBoost boosters to ONNX, with a check that both give the same scores.

The converter is our own, because onnxmltools 1.16 gives outputs that serving does not want (labels, and the probability
of both classes), knows no categories and no bags, and writes a wrong base score when the first tree is a single leaf of
zero (a test shows it).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import xgboost
from onnx import TensorProto, helper, numpy_helper

from data.errors import BundleError
from data.transform.encoding import FLOAT32_MAX
from tune.registry.bundle import INPUT_NAME, OUTPUT_NAME
from tune.tasks.calibration_curves import (
    BetaCalibration,
    Calibrator,
    IsotonicCalibration,
    PlattCalibration,
    TemperatureCalibration,
)
from tune.tasks.link import Link, link_of
from tune.training.onnx_trees import ML_OPSET, tree_ensemble
from tune.training.xgboost_trees import Split, read_bag, splits_of

OPSET = 17
_IR_VERSION = 10
_LANES = 16
"""Float32 numbers of the widest SIMD register (AVX-512)."""
_MAX_ADVERSARIAL, _MOST_VALUES = 20_000, 5
"""Adversarial rows for splits, and for one split, at most."""


def to_onnx(boosters: Sequence[xgboost.Booster], calibrator: Calibrator | None = None) -> bytes:
    """Convert a bag of boosters, all of their rounds (slice them to the best iteration first).

    The model's margins are the mean of the boosters'; its scores are what the objective predicts by them.

    Args:
        boosters: at least one, all of the same features.
        calibrator: becomes part of the graph: Platt's line scales the leaves, the other curves are a few nodes behind
            the trees. A temperature scales the leaves too.

    Returns:
        The serialized model; its input and output are those of `tune.registry.bundle`.

    Raises:
        BundleError: there is no booster, its objective is not known, or they differ in objective or features.
    """
    bag = read_bag(boosters)
    slope, offset = _scaled_leaves(calibrator)
    behind, constants = _behind_the_trees(calibrator, link_of(bag.objective))
    graph = helper.make_graph(
        [tree_ensemble(bag, slope, offset, INPUT_NAME, "margin"), *behind],
        "rayscore",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["n", bag.width])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["n", len(bag.base_margins)])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="rayscore")
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _scaled_leaves(calibrator: Calibrator | None) -> tuple[float, float]:
    """Return slope and offset of margins: a line through the log-odds needs no node."""
    if isinstance(calibrator, TemperatureCalibration):
        return 1 / calibrator.temperature, 0.0
    return calibrator if isinstance(calibrator, PlattCalibration) else (1.0, 0.0)


def _behind_the_trees(calibrator: Calibrator | None, link: Link) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Return the nodes that turn the margins into scores, and their constants by name."""
    if isinstance(calibrator, IsotonicCalibration):
        return _isotonic(calibrator)
    if isinstance(calibrator, BetaCalibration):
        return _beta(calibrator)
    if link.operator == "Exp":
        return _exp()
    # ONNX Runtime ignores post_transform="LOGISTIC" with one target, hence a node of its own.
    return [helper.make_node(link.operator or "Identity", ["margin"], [OUTPUT_NAME])], {}


def _exp() -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    # In all lanes of a register, as in `_beta`, so that a row has the same last bits alone and among others.
    return [
        helper.make_node("Mul", ["margin", "lanes"], ["repeated"]),
        helper.make_node("Exp", ["repeated"], ["powers"]),
        helper.make_node("MatMul", ["powers", "first"], [OUTPUT_NAME]),
    ], {"lanes": np.ones(_LANES), "first": np.eye(_LANES, 1)}


def _isotonic(curve: IsotonicCalibration) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    # Each piece of the curve adds its slope times the part of it that lies below the margin. No term is negative, so
    # that float32 loses nothing by cancellation.
    widths = np.diff(curve.margins)
    return [
        helper.make_node("Sub", ["margin", "starts"], ["beyond"]),
        helper.make_node("Relu", ["beyond"], ["entered"]),
        helper.make_node("Min", ["entered", "widths"], ["covered"]),
        helper.make_node("MatMul", ["covered", "slopes"], ["risen"]),
        helper.make_node("Add", ["risen", "lowest"], [OUTPUT_NAME]),
    ], {
        "starts": curve.margins[:-1],
        "widths": widths,
        "slopes": (np.diff(curve.values) / widths).reshape(-1, 1),
        "lowest": curve.values[:1],
    }


def _beta(curve: BetaCalibration) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    # Both logarithms at once: -log p and -log(1 - p) are softplus of minus the margin and of the margin. Each stands
    # eight times, so that a row fills whole SIMD registers: ONNX Runtime computes what does not fill one by another
    # formula, and a row would have other last bits alone than among others.
    lanes = _LANES // 2
    return [
        helper.make_node("Mul", ["margin", "signs"], ["signed"]),
        helper.make_node("Softplus", ["signed"], ["logarithms"]),
        helper.make_node("MatMul", ["logarithms", "exponents"], ["corrected"]),
        helper.make_node("Add", ["corrected", "offset"], ["log_odds"]),
        helper.make_node("Sigmoid", ["log_odds"], [OUTPUT_NAME]),
    ], {
        "signs": np.repeat([-1.0, 1.0], lanes),
        "exponents": np.repeat([-curve.a, curve.b], lanes).reshape(-1, 1) / lanes,
        "offset": np.array([curve.c]),
    }


class OnnxScorer:
    """Scores matrices with an exported model by ONNX Runtime on one thread, as serving does."""

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """Return the scores of rows, float32 of shape (n, width), for a float32 matrix of shape (n, k)."""
        return np.asarray(self._session.run([OUTPUT_NAME], {INPUT_NAME: np.ascontiguousarray(matrix, np.float32)})[0])


def mean_margins(boosters: Sequence[xgboost.Booster], matrix: np.ndarray) -> np.ndarray:
    """Return the mean of the boosters' margins, float64 of shape (n,), for a float32 matrix of shape (n, k).

    Of several classes the shape is (n, classes).

    A plain array is enough where features are categories: trees know which of their splits are by category, and
    `inplace_predict` gives what a DMatrix with feature types does (a test compares them).
    """
    margins = [booster.inplace_predict(matrix, predict_type="margin", missing=np.nan) for booster in boosters]
    return np.asarray(np.mean(margins, axis=0, dtype=np.float64))


def verify_parity(
    boosters: Sequence[xgboost.Booster],
    model: bytes,
    matrix: np.ndarray,
    calibrator: Calibrator | None = None,
    tolerance: float = 1e-5,
) -> float:
    """Compare the ONNX model with the boosters on `matrix` and on adversarial rows.

    Args:
        boosters: the bag.
        model: the exported model.
        matrix: encoded rows, float32 of shape (n, k).
        calibrator: the calibrator in the model, if there is one.
        tolerance: largest difference allowed in a probability, and in a number as a share of the largest one. A
            calibrator that is steeper than the logistic curve magnifies the trees' float32 rounding; the tolerance
            grows with it.

    Returns:
        The largest difference in a score.

    Raises:
        BundleError: a score differs by more than `tolerance`, or the boosters are not a bag.
    """
    rows = np.concatenate([matrix, adversarial_rows(boosters, matrix)])
    margins = mean_margins(boosters, rows)
    if calibrator is None:
        expected = link_of(read_bag(boosters).objective).predicted(margins)
        tolerance *= float(np.abs(expected).max(initial=1.0))
    else:
        expected = calibrator.probabilities(margins)
        tolerance *= max(4 * calibrator.steepness, 1.0)
    scores = OnnxScorer(model).scores(rows).astype(np.float64)
    difference = np.abs(scores - expected.reshape(scores.shape)).max(axis=1)
    worst = float(difference.max(initial=0.0))
    if not worst <= tolerance:  # true for NaN as well
        at = int(np.nanargmax(difference)) if np.isfinite(difference).any() else 0
        raise BundleError(
            f"the ONNX model and the booster differ by {worst:.3g} in a score (allowed: {tolerance:g}), "
            f"on the encoded row {rows[at].tolist()}"
        )
    return worst


def adversarial_rows(boosters: Sequence[xgboost.Booster], matrix: np.ndarray) -> np.ndarray:
    """Return rows on which a wrong export shows, float32 of shape (m, k).

    All missing, zeros, each feature missing or extreme in turn, and for splits (as many as 20,000 rows hold, taken
    evenly) values that a wrong split sends the other way. For a number: the threshold and its two neighbouring float32
    numbers, where rounding a threshold, or `<=` in place of `<`, shows. For a category: the first and the last code of
    the split's set, the first code outside it, the first beyond it, and none. Categories are codes from 0 or NaN only,
    as the encoder makes no others.
    """
    bag = read_bag(boosters)
    bases = matrix if len(matrix) else np.zeros((1, bag.width), np.float32)
    splits = [split for tree in bag.trees for split in splits_of(tree)]
    rows = [_extreme(bases[0], value, bag.categorical) for value in (np.nan, 0.0, -0.0, FLOAT32_MAX, -FLOAT32_MAX)]
    for feature in range(bag.width):
        if feature in bag.categorical:
            values = (np.nan, 0.0, _beyond_all(feature, splits, matrix))
        else:
            values = (np.nan, 0.0, FLOAT32_MAX, -FLOAT32_MAX, np.float32(1e-45))
        rows += [_with(bases[0], feature, value) for value in values]
    distinct = sorted({(split.feature, split.threshold, split.members) for split in splits})
    for feature, threshold, members in distinct[:: len(distinct) * _MOST_VALUES // _MAX_ADVERSARIAL + 1]:
        for value in _straddling(threshold, members):
            rows.append(_with(bases[len(rows) % len(bases)], feature, value))
    return np.array(rows, np.float32)


def _straddling(threshold: float, members: tuple[int, ...]) -> list[float | np.float32]:
    if members:
        outside = next((at for at, code in enumerate(members) if code != at), members[-1] + 1)
        return [members[0], members[-1], outside, members[-1] + 1, np.nan]
    exact = np.float32(threshold)
    return [np.nextafter(exact, np.float32(-np.inf)), exact, np.nextafter(exact, np.float32(np.inf))]


def _beyond_all(feature: int, splits: list[Split], matrix: np.ndarray) -> int:
    """Return the first code above all that the trees or the matrix have for the feature."""
    trained = max((split.members[-1] for split in splits if split.feature == feature and split.members), default=-1)
    codes = matrix[:, feature]
    return int(codes[~np.isnan(codes)].max(initial=trained)) + 1


def _extreme(base: np.ndarray, value: float, categorical: frozenset[int]) -> np.ndarray:
    """Return a row with `value` everywhere but in categories, which are missing with it or else 0."""
    row = np.full(len(base), value, np.float32)
    row[list(categorical)] = np.nan if np.isnan(value) else 0.0
    return row


def _with(row: np.ndarray, feature: int, value: float | np.float32) -> np.ndarray:
    row = row.copy()
    row[feature] = value
    return row
