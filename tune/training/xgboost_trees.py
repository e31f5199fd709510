"""The trees of XGBoost boosters, read from their JSON models, where thresholds and leaves are exact float32."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xgboost

from data.errors import BundleError
from tune.tasks.link import Link, link_of


class Split(NamedTuple):
    """An inner node of a tree, with all that is below it."""

    feature: int
    threshold: float
    """A number below it goes left, any other right; of no meaning for a category."""
    members: tuple[int, ...]
    """The categories that go right, ascending; any other, also one beyond them, goes left. Empty for a number."""
    missing_left: bool
    """Whether NaN goes left."""
    left: Tree
    right: Tree


Tree = Split | float
"""A tree: its root, or the weight of its only leaf."""


class Bag(NamedTuple):
    """Boosters whose margins are averaged."""

    width: int
    """Number of features."""
    categorical: frozenset[int]
    """The features whose values are codes of categories."""
    objective: str
    """XGBoost's name of what the boosters were fitted for."""
    base_margins: tuple[float, ...]
    """Of each target the margin before any tree, the mean over the boosters: one, or one a class."""
    boosters: int
    trees: list[Tree]
    """The trees of all boosters; a bag's margin is its base margin and the sum of its trees' leaves / `boosters`."""
    targets: list[int]
    """Of each tree the target, a position in `base_margins`."""


def read_bag(boosters: Sequence[xgboost.Booster]) -> Bag:
    """Read boosters, all of their rounds (slice them to the best iteration first).

    Raises:
        BundleError: there is no booster, one is none of trees or of an objective that is not known, or they differ in
            their features or objective.
    """
    if not boosters:
        raise BundleError("a bag needs at least one booster")
    learners = [json.loads(booster.save_raw("json"))["learner"] for booster in boosters]
    for learner in learners:
        kind, objective = learner["gradient_booster"]["name"], learner["objective"]["name"]
        if kind != "gbtree":
            raise BundleError(f"cannot export {objective} on {kind}: only on gbtree")
    objective = learners[0]["objective"]["name"]
    link = link_of(objective)
    width, categorical = _features(learners[0])
    for at, learner in enumerate(learners[1:], start=1):
        if learner["objective"]["name"] != objective:
            raise BundleError(
                f"the boosters of a bag must have one objective: booster {at} has {learner['objective']['name']}, "
                f"booster 0 {objective}"
            )
        theirs = _features(learner)
        if theirs != (width, categorical):
            raise BundleError(
                f"the boosters of a bag must take the same features: booster {at} takes {theirs[0]} with categories at "
                f"{sorted(theirs[1])}, booster 0 takes {width} with categories at {sorted(categorical)}"
            )
    base = np.mean([_base_margins(learner["learner_model_param"], link) for learner in learners], axis=0)
    models = [learner["gradient_booster"]["model"] for learner in learners]
    trees = [_tree(raw) for model in models for raw in model["trees"]]
    targets = [int(target) for model in models for target in model["tree_info"]]
    return Bag(width, categorical, objective, tuple(map(float, base)), len(boosters), trees, targets)


def splits_of(tree: Tree) -> list[Split]:
    """Return the splits of a tree level by level, the root first; none for a single leaf."""
    found = [tree] if isinstance(tree, Split) else []
    for split in found:  # grows meanwhile
        found += [child for child in (split.left, split.right) if isinstance(child, Split)]
    return found


def _features(learner: dict[str, Any]) -> tuple[int, frozenset[int]]:
    # The types are empty when the matrix was built without: then all features are numbers.
    types = learner.get("feature_types", [])
    width = int(learner["learner_model_param"]["num_feature"])
    return width, frozenset(at for at, kind in enumerate(types) if kind == "c")


def _base_margins(params: dict[str, str], link: Link) -> list[float]:
    # XGBoost 3 writes the base scores as a list, "[1.5E-2]", of one or of one a class; older ones as one number.
    scores = [link.margin(float(score)) for score in params["base_score"].strip("[]").split(",")]
    return scores * max(int(params["num_class"]), 1) if len(scores) == 1 else scores


def _tree(raw: dict[str, Any]) -> Tree:
    left, right = raw["left_children"], raw["right_children"]
    members = _members(raw)
    reached = [0]
    for node in reached:  # grows meanwhile; nodes that pruning cut off are not reached
        if left[node] != -1:
            reached += [left[node], right[node]]
    built: dict[int, Tree] = {}
    for node in reversed(reached):  # children before their parents
        value = float(raw["split_conditions"][node])  # of a leaf, its weight
        if left[node] == -1:
            built[node] = value
        else:
            feature, missing_left = int(raw["split_indices"][node]), bool(raw["default_left"][node])
            below = built[left[node]], built[right[node]]
            built[node] = Split(feature, value, members.get(node, ()), missing_left, *below)
    return built[0]


def _members(raw: dict[str, Any]) -> dict[int, tuple[int, ...]]:
    """Return the categories that go right, ascending, for each node that splits by category.

    XGBoost's `common::Decision` (src/common/categorical.h) sends a category of the node's set right and any other left.
    """
    spans = zip(raw["categories_nodes"], raw["categories_segments"], raw["categories_sizes"], strict=True)
    return {node: tuple(sorted(raw["categories"][start : start + size])) for node, start, size in spans}
