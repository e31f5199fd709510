"""Variables of Serve that the user gives for a running cluster are in force there, or are refused by name."""

from __future__ import annotations

import os

import pytest

from data.distributed.cluster_address import GivenAddress
from data.errors import ConfigError
from ray_app.deployments.cluster_environment import check_given
from ray_app.environment.serve_environment import serve_environment

_CLUSTER = GivenAddress("10.0.0.1:6379")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, {"RAY_SERVE_HAPROXY_NBTHREAD": "2"}),
        ({"RAY_SERVE_HAPROXY_NBTHREAD": "2"}, {"RAY_SERVE_HAPROXY_NBTHREAD": "2"}),
        ({"RAY_SERVE_ENABLE_HA_PROXY": "0"}, {}),
        ({"RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure"}, {}),
        ({"RAY_SERVE_HAPROXY_NBTHREAD": " 04"}, {"RAY_SERVE_HAPROXY_NBTHREAD": "4"}),
        ({"RAY_SERVE_ROUTER_RETRY_MAX_BACKOFF_S": "3"}, {}),
        (serve_environment(), serve_environment()),
    ],
)
def test_what_is_in_force_is_taken(given: dict[str, str], found: dict[str, str]):
    """The cluster's own value, its default, the same value written otherwise, and what the command itself reads."""
    before = dict(os.environ)
    check_given(given, found, _CLUSTER)
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("name", "value", "there"),
    [
        ("RAY_SERVE_HAPROXY_NBTHREAD", "3", "there it is not set"),
        ("RAY_SERVE_ENABLE_HA_PROXY", "1", "there it is not set"),
        ("RAY_SERVE_HAPROXY_MAXCONN", "many", "there it is not set"),
        ("RAY_worker_niceness", "0", "there it is not set"),
        ("RAY_SERVE_ENABLE_HA", "1", "there it is not set"),
    ],
)
def test_what_cannot_act_is_refused_by_name(name: str, value: str, there: str):
    """Another value than the cluster's is refused with both, a value or a name that Serve does not know too."""
    with pytest.raises(ConfigError) as told:
        check_given({name: value}, {"RAY_SERVE_LOG_TO_STDERR": "1"}, _CLUSTER)
    assert f"{name}={value} ({there}) cannot act in the running cluster at RAY_ADDRESS=10.0.0.1:6379" in str(told.value)


def test_many_are_told_in_one_line():
    """The first are named and the others counted; a long value is cut."""
    with pytest.raises(ConfigError) as told:
        check_given(serve_environment(), {"RAY_SERVE_HAPROXY_RETRIES": "7"}, _CLUSTER)
    assert f"and {len(serve_environment()) - 3} more cannot act" in str(told.value)
    assert len(str(told.value)) < 500
    assert "\n" not in str(told.value)
