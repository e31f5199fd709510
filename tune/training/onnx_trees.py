"""Trees as ONNX's operator TreeEnsemble, of ai.onnx.ml 5, the first that knows sets of categories.

Models without categories use it too: one row and a thousand take as long as with TreeEnsembleRegressor. ONNX Runtime
below 1.23 gives other values or does not have the operator.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tune.training.xgboost_trees import Bag, Split, Tree, splits_of

ML_OPSET = 5
_BRANCH_LT, _BRANCH_MEMBER = 1, 6
"""Modes of a node: its true branch is taken where the value is below the threshold, or in the set."""


def tree_ensemble(bag: Bag, slope: float, offset: float, source: str, output: str) -> onnx.NodeProto:
    """Return the node that computes `slope` * (the bag's margins) + `offset` as `output` from the features `source`."""
    # The operator has no base value, and ONNX Runtime 1.23 takes the wrong leaf for a tree of one leaf: the base and
    # all such trees are one split for each target, whose two leaves are the same.
    scale = slope / bag.boosters
    constants = [slope * base + offset for base in bag.base_margins]
    for tree, target in zip(bag.trees, bag.targets, strict=True):
        if not isinstance(tree, Split):
            constants[target] += scale * tree
    ensemble = _Ensemble(len(constants))
    for target, constant in enumerate(constants):
        ensemble.add(Split(0, 0.0, (), False, constant, constant), 1.0, target)
    for tree, target in zip(bag.trees, bag.targets, strict=True):
        if isinstance(tree, Split):
            ensemble.add(tree, scale, target)
    return ensemble.node(source, output)


class _Branches(NamedTuple):
    """A branch of each node: where it leads, and whether to a leaf."""

    numbers: list[int]
    leafs: list[int]


class _Ensemble:
    """The attributes of a TreeEnsemble node (ai.onnx.ml 5), filled tree by tree."""

    def __init__(self, width: int) -> None:
        self._width = width
        self.roots: list[int] = []
        self.features: list[int] = []
        self.modes: list[int] = []
        self.thresholds: list[float] = []
        self.members: list[float] = []
        self.missing_true: list[int] = []
        self.true, self.false = _Branches([], []), _Branches([], [])
        self.weights: list[float] = []
        self.targets: list[int] = []

    def add(self, root: Split, scale: float, target: int) -> None:
        """Add a tree of a target whose leaves are multiplied by `scale`."""
        splits = splits_of(root)
        self.roots.append(len(self.features))
        # Nodes and leaves are numbered apart, and ONNX Runtime 1.23 takes a root whose branches have equal numbers for
        # a leaf even where one is a node and the other a leaf. A root's inner branch is the next node; leaves are
        # numbered backwards and are more than the nodes, so that a root's leaf has a higher number.
        nodes = itertools.count(len(self.features) + 1)
        leaves = itertools.count(len(self.weights) + len(splits), -1)
        self.weights += [0.0] * (len(splits) + 1)
        self.targets += [target] * (len(splits) + 1)
        for split in splits:
            left, right = (self._place(child, scale, nodes, leaves) for child in (split.left, split.right))
            self._append(split, left, right)

    def _place(
        self, child: Tree, scale: float, nodes: itertools.count[int], leaves: itertools.count[int]
    ) -> tuple[int, int]:
        if isinstance(child, Split):
            return next(nodes), 0
        number = next(leaves)
        self.weights[number] = scale * child
        return number, 1

    def _append(self, split: Split, left: tuple[int, int], right: tuple[int, int]) -> None:
        # A number below the threshold goes left: strictly, so that one that equals it goes right. A category of the
        # set goes right.
        by_category = bool(split.members)
        self.features.append(split.feature)
        self.modes.append(_BRANCH_MEMBER if by_category else _BRANCH_LT)
        self.thresholds.append(0.0 if by_category else split.threshold)
        if by_category:
            self.members += [*map(float, split.members), np.nan]  # NaN ends a node's set
        self.missing_true.append(int(split.missing_left != by_category))
        for branches, (number, is_leaf) in zip(
            (self.true, self.false), (right, left) if by_category else (left, right), strict=True
        ):
            branches.numbers.append(number)
            branches.leafs.append(is_leaf)

    def node(self, source: str, output: str) -> onnx.NodeProto:
        """Return the node, from features to margins."""
        attributes: dict[str, Any] = {
            "n_targets": self._width,
            "tree_roots": self.roots,
            "nodes_featureids": self.features,
            "nodes_modes": _tensor(self.modes, np.uint8),
            "nodes_splits": _tensor(self.thresholds, np.float32),
            "nodes_missing_value_tracks_true": self.missing_true,
            "nodes_truenodeids": self.true.numbers,
            "nodes_trueleafs": self.true.leafs,
            "nodes_falsenodeids": self.false.numbers,
            "nodes_falseleafs": self.false.leafs,
            "leaf_targetids": self.targets,
            "leaf_weights": _tensor(self.weights, np.float32),
        }
        if self.members:
            attributes["membership_values"] = _tensor(self.members, np.float32)
        return helper.make_node("TreeEnsemble", [source], [output], domain="ai.onnx.ml", **attributes)


def _tensor(values: Sequence[float], kind: type[np.generic]) -> TensorProto:
    return numpy_helper.from_array(np.array(values, kind))
