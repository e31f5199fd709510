"""Export of an XGBoost booster to ONNX, with a check that both give the same probabilities.

The converter is our own, because onnxmltools 1.16 gives outputs that serving does not want (labels, and the probability
of both classes) and a wrong base score when the first tree is a single leaf of zero (a test shows it). Trees are read
from XGBoost's JSON model, where thresholds are exact float32.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
import xgboost
from onnx import TensorProto, helper, numpy_helper

from data.errors import BundleError
from data.transform.encoding import FLOAT32_MAX
from tune.registry.bundle import INPUT_NAME, OUTPUT_NAME
from tune.training.calibration import Calibrator, IsotonicCalibration, PlattCalibration

OPSET = 17
ML_OPSET = 3
_IR_VERSION = 8
_OBJECTIVE = "binary:logistic"
_MAX_ADVERSARIAL = 20_000


def to_onnx(booster: xgboost.Booster, calibrator: Calibrator | None = None) -> bytes:
    """Convert a binary:logistic booster, all of its rounds (slice it to the best iteration first).

    Args:
        booster: the booster.
        calibrator: becomes part of the graph: Platt's line scales the leaves, an isotonic curve is a few nodes behind
            the trees.

    Returns:
        The serialized model; its input and output are those of `tune.registry.bundle`.

    Raises:
        BundleError: the booster has another objective, or no trees.
    """
    learner = json.loads(booster.save_raw("json"))["learner"]
    booster_kind = learner["gradient_booster"]["name"]
    if learner["objective"]["name"] != _OBJECTIVE or booster_kind != "gbtree":
        raise BundleError(
            f"cannot export {learner['objective']['name']} on {booster_kind}: only {_OBJECTIVE} on gbtree"
        )
    width = int(learner["learner_model_param"]["num_feature"])
    attributes: dict[str, Any] = _tree_attributes(learner["gradient_booster"]["model"]["trees"])
    # A line through the log-odds needs no node: it scales the leaves.
    slope, offset = calibrator if isinstance(calibrator, PlattCalibration) else (1.0, 0.0)
    attributes["target_weights"] = [slope * weight for weight in attributes["target_weights"]]
    attributes["base_values"] = [slope * _base_margin(learner["learner_model_param"]["base_score"]) + offset]
    trees = helper.make_node(
        "TreeEnsembleRegressor", [INPUT_NAME], ["margin"], domain="ai.onnx.ml", n_targets=1, **attributes
    )
    behind, constants = _behind_the_trees(calibrator)
    graph = helper.make_graph(
        [trees, *behind],
        "rayscore",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="rayscore")
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _behind_the_trees(calibrator: Calibrator | None) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Return the nodes that turn the margin into the probability, and their constants by name."""
    # ONNX Runtime ignores post_transform="LOGISTIC" on a regressor with one target, hence a node of its own.
    if not isinstance(calibrator, IsotonicCalibration):
        return [helper.make_node("Sigmoid", ["margin"], [OUTPUT_NAME])], {}
    # Each piece of the curve adds its slope times the part of it that lies below the margin. No term is negative, so
    # that float32 loses nothing by cancellation.
    widths = np.diff(calibrator.margins)
    return [
        helper.make_node("Sub", ["margin", "starts"], ["beyond"]),
        helper.make_node("Relu", ["beyond"], ["entered"]),
        helper.make_node("Min", ["entered", "widths"], ["covered"]),
        helper.make_node("MatMul", ["covered", "slopes"], ["risen"]),
        helper.make_node("Add", ["risen", "lowest"], [OUTPUT_NAME]),
    ], {
        "starts": calibrator.margins[:-1],
        "widths": widths,
        "slopes": (np.diff(calibrator.values) / widths).reshape(-1, 1),
        "lowest": calibrator.values[:1],
    }


def _base_margin(base_score: str) -> float:
    # XGBoost 3 writes the base score as a list of probabilities, "[1.5E-2]"; older ones as one number.
    # The logit is taken in float32, as XGBoost does.
    value = np.float32(float(base_score.strip("[]")))
    return float(-np.log(np.float32(1) / value - np.float32(1)))


def _tree_attributes(trees: list[dict[str, Any]]) -> dict[str, list[Any]]:
    attributes: dict[str, list[Any]] = {name: [] for name in _NODE_ATTRIBUTES + _LEAF_ATTRIBUTES}
    for tree_id, tree in enumerate(trees):
        for row in _nodes(tree_id, tree):
            for name, value in zip(_NODE_ATTRIBUTES, row, strict=True):
                attributes[name].append(value)
        for node_id, left in enumerate(tree["left_children"]):
            if left == -1:
                leaf = (tree_id, node_id, 0, tree["split_conditions"][node_id])
                for name, value in zip(_LEAF_ATTRIBUTES, leaf, strict=True):
                    attributes[name].append(value)
    return attributes


_NODE_ATTRIBUTES = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_featureids",
    "nodes_modes",
    "nodes_values",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_missing_value_tracks_true",
)
_LEAF_ATTRIBUTES = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


def _nodes(tree_id: int, tree: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    columns = ("left_children", "right_children", "split_indices", "split_conditions", "default_left")
    for node_id, (left, right, feature, value, goes_left) in enumerate(zip(*(tree[c] for c in columns), strict=True)):
        if left == -1:
            yield tree_id, node_id, 0, "LEAF", 0.0, 0, 0, 0
        else:
            # Strictly less, as in XGBoost: a value that equals the threshold goes right.
            yield tree_id, node_id, feature, "BRANCH_LT", value, left, right, int(goes_left)


class OnnxScorer:
    """Scores matrices with an exported model by ONNX Runtime on one thread, as serving does."""

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """Return the probability of label 1, float32 of shape (n,), for a float32 matrix of shape (n, k)."""
        output = self._session.run([OUTPUT_NAME], {INPUT_NAME: np.ascontiguousarray(matrix, np.float32)})[0]
        return np.asarray(output).reshape(-1)


def verify_parity(
    booster: xgboost.Booster,
    model: bytes,
    matrix: np.ndarray,
    calibrator: Calibrator | None = None,
    tolerance: float = 1e-5,
) -> float:
    """Compare the ONNX model with the booster on `matrix` and on adversarial rows.

    Args:
        booster: the booster.
        model: the exported model.
        matrix: encoded rows, float32 of shape (n, k).
        calibrator: the calibrator in the model, if there is one.
        tolerance: largest difference allowed in probability. A calibrator that is steeper than the logistic curve
            magnifies the trees' float32 rounding; the tolerance grows with it.

    Returns:
        The largest difference in probability.

    Raises:
        BundleError: a probability differs by more than `tolerance`.
    """
    rows = np.concatenate([matrix, adversarial_rows(booster, matrix)])
    if calibrator is None:
        expected = booster.inplace_predict(rows, missing=np.nan)
    else:
        expected = calibrator.probabilities(booster.inplace_predict(rows, predict_type="margin", missing=np.nan))
        tolerance *= max(4 * calibrator.steepness, 1.0)
    difference = np.abs(OnnxScorer(model).probabilities(rows).astype(np.float64) - expected)
    worst = float(difference.max(initial=0.0))
    if not worst <= tolerance:  # true for NaN as well
        at = int(np.nanargmax(difference)) if np.isfinite(difference).any() else 0
        raise BundleError(
            f"the ONNX model and the booster differ by {worst:.3g} in probability (allowed: {tolerance:g}), "
            f"on the encoded row {rows[at].tolist()}"
        )
    return worst


def adversarial_rows(booster: xgboost.Booster, matrix: np.ndarray) -> np.ndarray:
    """Return rows on which a wrong export shows, float32 of shape (m, k).

    All missing, zeros, each feature missing or extreme in turn, and for splits (as many as 20,000 rows hold) the
    threshold and its two neighbouring float32 numbers: there rounding a threshold, or `<` in place of `<=`, sends a row
    the other way.
    """
    width = matrix.shape[1]
    base = matrix[0] if len(matrix) else np.zeros(width, np.float32)
    rows = [np.full(width, value, np.float32) for value in (np.nan, 0.0, -0.0, FLOAT32_MAX, -FLOAT32_MAX)]
    for feature in range(width):
        rows += [_with(base, feature, value) for value in (np.nan, 0.0, FLOAT32_MAX, -FLOAT32_MAX, np.float32(1e-45))]
    for feature, threshold in _thresholds(booster)[: _MAX_ADVERSARIAL // 3]:
        for value in (
            _next(threshold, -np.inf),
            threshold,
            _next(threshold, np.inf),
        ):
            rows.append(_with(matrix[len(rows) % len(matrix)] if len(matrix) else base, feature, value))
    return np.array(rows, np.float32)


def _next(value: np.float32, towards: float) -> np.float32:
    return np.float32(np.nextafter(value, np.float32(towards)))


def _with(row: np.ndarray, feature: int, value: float | np.float32) -> np.ndarray:
    row = row.copy()
    row[feature] = value
    return row


def _thresholds(booster: xgboost.Booster) -> list[tuple[int, np.float32]]:
    trees = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]["model"]["trees"]
    splits = {
        (feature, value)
        for tree in trees
        for left, feature, value in zip(
            tree["left_children"], tree["split_indices"], tree["split_conditions"], strict=True
        )
        if left != -1
    }
    return [(feature, np.float32(value)) for feature, value in sorted(splits)]
