"""Rollouts as they are declared: what is refused, and what a tag holds."""

from __future__ import annotations

import pytest

from data.errors import ConfigError
from tests.support.serving.rollout import rollout
from tune.registry.rollout_spec import (
    RolloutAction,
    RolloutOrder,
    RolloutState,
    parse_order,
    parse_rollout,
    parse_slo,
    parse_steps,
)


@pytest.mark.parametrize("steps", ["", "a", "5,1", "5,5", "0,5", "101", "-1", "0.001", "1,,5"])
def test_steps_that_do_not_rise(steps: str):
    """Steps that do not rise to at most 100 percent are refused, and the text names them."""
    with pytest.raises(ConfigError, match="steps"):
        rollout(steps=parse_steps(steps))


def test_objectives():
    """Objectives are terms; what is left out keeps its default, and 'off' switches one off."""
    slo = parse_slo("p99.5=5ms, errors=0.5%, drift=off,decisions=3x")
    assert (slo.percentile, slo.latency_s, slo.errors, slo.drift, slo.decisions) == (99.5, 0.005, 0.005, None, 3.0)
    assert parse_slo("").latency_s == 0.05
    assert parse_slo("p99=off").latency_s is None
    assert parse_slo("p99=5.44ms").latency_s == 0.0054, "two digits are told apart"


@pytest.mark.parametrize(
    "text", ["p99", "p99=fast", "p99=5ms,p99=6ms", "p10=5ms", "errors=60%", "errors=off", "speed=1", "drift=2"]
)
def test_wrong_objectives(text: str):
    """A term that is not one is refused by name."""
    with pytest.raises(ConfigError, match=text.partition("=")[0] if "p10" not in text else "percentile"):
        parse_slo(text)


def test_second_percentile_is_refused():
    """A rollout is judged by one percentile: with two the first would be lost without a word."""
    with pytest.raises(ConfigError, match="p50=1ms,p99=5ms: give one percentile"):
        parse_slo("p50=1ms,p99=5ms")


def test_tag_holds_all():
    """A rollout comes back from its tag as it was, and stays below what MLflow takes however long it goes on."""
    kept = rollout(steps=(1, 5, 100), slo=parse_slo("p99=5ms"))
    for at in range(100):
        kept = kept.noted(at, "x" * 2000, state=RolloutState.PAUSED)
    assert parse_rollout(kept.model_dump_json()) == kept
    assert len(kept.model_dump_json()) < 5000


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"id": "x"}', rollout().model_dump_json().replace('"step":-1', '"step":9')]
)
def test_broken_tag(text: str):
    """A tag that is half written, or holds something else, is refused by its name."""
    with pytest.raises(ConfigError, match=r"rayscore\.rollout"):
        parse_rollout(text)


def test_unknown_keys_are_refused():
    """A key that is not known is refused, and so is a rollout of the champion itself."""
    with pytest.raises(ConfigError, match="pace"):
        rollout(pace=1)
    with pytest.raises(ConfigError, match="is the champion"):
        rollout(version="1")


def test_orders():
    """An order to start has the rollout, any other has none."""
    order = RolloutOrder(id="00000001", action=RolloutAction.START, rollout=rollout())
    assert parse_order(order.model_dump_json()) == order
    with pytest.raises(ConfigError, match="'start'"):
        parse_order('{"id": "00000001", "action": "pause", "rollout": ' + rollout().model_dump_json() + "}")
