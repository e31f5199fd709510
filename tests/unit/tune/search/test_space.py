"""The search space, checked by XGBoost itself before anything runs."""

from __future__ import annotations

import pytest

from data.errors import ConfigError
from data.schema.search import Range, Search
from tests.support.training.tasks import binary_task
from tune.search.space import check_space


@pytest.mark.parametrize(
    ("name", "declared", "said"),
    [
        ("max_depht", Range(low=1, high=3, integer=True), "max_depht: XGBoost has no such parameter"),
        ("seed", Range(low=1, high=3, integer=True), "seed: is set by rayscore"),
        ("max_depth", Range(low=3.2, high=3.8, integer=True), "max_depth: no whole number lies between low and high"),
        ("max_depth", Range(low=1.5, high=3.5), "max_depth = 1.5: .*integer = true"),
        ("grow_policy", Range(choices=("depthwise", "leaf")), "grow_policy = 'leaf': XGBoost refuses it"),
    ],
)
def test_mistake_in_the_space_is_named(name, declared, said):
    """A parameter that is unknown, fixed, empty or refused at an end is told with its name and the reason."""
    with pytest.raises(ConfigError, match=rf"search\.space\.{said}"):
        check_space(Search(space={name: declared}), binary_task(), 3)


def test_fractions_of_an_integer_range_are_tried_as_whole_numbers():
    """The ends that XGBoost judges are those that are searched."""
    check_space(Search(space={"max_depth": Range(low=0.5, high=6.5, integer=True)}), binary_task(), 1)


def test_weight_of_the_rarer_label_can_be_searched():
    """`scale_pos_weight` is a parameter like any other."""
    check_space(Search(space={"scale_pos_weight": Range(low=1, high=40, log=True)}), binary_task(), 2)


def test_constraints_are_declared_in_one_place():
    """Where features are monotone, the parameter cannot be searched too."""
    space = {"monotone_constraints": Range(choices=("(1,0)",))}
    with pytest.raises(ConfigError, match=r"monotone_constraints: is set by features that are monotone"):
        check_space(Search(space=space), binary_task(), 2, (1, 0))


@pytest.mark.parametrize(
    ("name", "value"), [("monotone_constraints", "(1,0,-1)"), ("interaction_constraints", "[[0, 1], [2]]")]
)
def test_constraints_of_every_feature_are_accepted(name, value):
    """A constraint names the columns of the model: one for three features is judged on three."""
    check_space(Search(space={name: Range(choices=(value,))}), binary_task(), 3)


def test_constraints_of_more_features_than_there_are_are_refused():
    """A constraint for a column that the model does not have is named before anything runs."""
    with pytest.raises(ConfigError, match=r"search\.space\.monotone_constraints = '\(1,0,-1\)': XGBoost refuses it"):
        check_space(Search(space={"monotone_constraints": Range(choices=("(1,0,-1)",))}), binary_task(), 2)
