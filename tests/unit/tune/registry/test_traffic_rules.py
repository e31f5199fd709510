"""Traffic rules: who is answered by which version, and who moves when a weight changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import ConfigError
from tune.registry.traffic_rules import BUCKETS, Challenger, Mode, TrafficRules, bucket, load_rules

KEYS = [f"card-{i}" for i in range(20_000)]


def rules(*challengers: tuple[str, float] | tuple[str, float, Mode], champion: str = "1") -> TrafficRules:
    """Rules of one use case."""
    named = tuple(Challenger(version=c[0], weight=c[1], mode=c[2] if len(c) > 2 else Mode.LIVE) for c in challengers)
    return TrafficRules(use_case="card_fraud", champion=champion, challengers=named)


def test_a_key_is_always_in_the_same_bucket():
    """The hash is fixed: another release or machine sends the same card to the same model."""
    assert [bucket(key) for key in ("card-1", "card-2", "")] == [5713, 8124, 9876]


def test_shares_are_those_declared():
    """Each live version answers for its share of the entities, to half a percent of 20,000; a shadow for none."""
    live = rules(("2", 5), ("3", 20), ("4", 50, Mode.SHADOW)).after(None)
    dealt = live.owners()
    owners = [dealt[bucket(key)] for key in KEYS]

    shares = {version: owners.count(version) / len(KEYS) for version in "1234"}
    assert shares == pytest.approx({"1": 0.75, "2": 0.05, "3": 0.20, "4": 0.0}, abs=0.005)


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("23456"), st.floats(0, 20)), max_size=5, unique_by=lambda c: c[0]),
        max_size=4,
    )
)
@settings(max_examples=60, deadline=None)
def test_only_the_difference_moves(history):
    """Whatever changes follow on one another, no more buckets change their owner than the weights demand."""
    now = rules().after(None)
    for challengers in history:
        then = rules(*challengers).after(now)
        moved = {(a, b) for a, b in zip(now.owners(), then.owners(), strict=True) if a != b}
        weights = {v: (weight_of(now, v), weight_of(then, v)) for v in "23456"}
        for a, b in moved:
            assert a == "1" or weights[a][1] < weights[a][0]
            assert b == "1" or weights[b][1] > weights[b][0]
        now = then
    assert now.epoch == len(history) + 1


def weight_of(given_rules: TrafficRules, version: str) -> float:
    """The weight that rules give a version."""
    return next((c.weight for c in given_rules.challengers if c.version == version), 0.0)


def test_buckets_are_never_owned_twice():
    """Two challengers that grow at once share out what is free."""
    live = rules(("2", 60), ("3", 40)).after(rules(("2", 10), ("3", 40)).after(None))
    owned = [at for c in live.challengers for start, stop in c.buckets for at in range(start, stop)]

    assert sorted(owned) == list(range(BUCKETS))
    assert "1" not in live.owners()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('use_case = "a"\nchampion = "1"\n[[challengers]]\nversion = "2"\nweight = 101', ["challengers.0.weight"]),
        ('use_case = "a"\nchampion = "1"\n[[challengers]]\nversion = "1"\nweight = 5', ["version 1", "twice"]),
        (
            'use_case = "a"\nchampion = "1"\n[[challengers]]\nversion = "2"\nweight = 60\n'
            '[[challengers]]\nversion = "3"\nweight = 50',
            ["sum to 110 %"],
        ),
        ('use_case = "a"\nchampion = "latest"', ["champion"]),
        ('use_case = "a"\nchampion = "1"\nweigth = 3', ["weigth"]),
        (
            'use_case = "a"\nchampion = "1"\n[[challengers]]\nversion = "2"\nweight = 1\nbuckets = [[0, 6], [5, 9]]',
            ["owned by two"],
        ),
        (
            'use_case = "a"\nchampion = "1"\n[[challengers]]\nversion = "2"\nweight = 1\nbuckets = [[9990, 10001]]',
            ["challengers.0.buckets"],
        ),
        ('use_case = "a"\nchampi', ["not readable as TOML"]),
    ],
)
def test_wrong_rules_are_refused_by_name(tmp_path: Path, text: str, words: list[str]):
    """Weights or buckets that do not fit, a version named twice, an unknown key, half a file: named."""
    file = tmp_path / "traffic.toml"
    file.write_text(text)

    with pytest.raises(ConfigError) as caught:
        load_rules(file)
    for word in [str(file), *words]:
        assert word in str(caught.value)


def test_rules_go_through_json_unchanged(tmp_path: Path):
    """What the registry keeps is what was decided, buckets and epoch included."""
    live = rules(("2", 12.34), ("3", 50, Mode.SHADOW)).after(rules(("2", 5)).after(None))
    file = tmp_path / "traffic.json"
    file.write_text(json.dumps(live.model_dump(mode="json")))

    assert load_rules(file) == live
