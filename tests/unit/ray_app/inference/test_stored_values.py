"""A value on its way through CSV, Parquet and the store: `get` shows, and HTTP uses, what a client would have sent."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.__main__ import LINE
from data.cli.terminal import run_cli
from data.online_store.sqlite import SqliteStore
from data.schema.use_case import parse_use_case
from ray_app.inference.features.feature_fetch import LocalFeatures
from tests.support.serving.predict_app import build_app, run
from tests.support.training.models import card_table, train_bundle
from tune.registry.bundle import Bundle

_CASE = """
name = "spending"
label = "is_fraud"
event_time = "timestamp"
materialized = { every = "1m" }
entity = { column = "user_id", ttl = "30d" }
[features]
amount = { type = "number", source = "either" }
velocity_last_24h = { type = "integer", source = "either" }
merchant_category = { type = "category", source = "either" }
"""
_USE_CASE = parse_use_case(_CASE, "case.toml")
_TYPES = {"user_id": "string", "amount": "number", "velocity_last_24h": "integer", "merchant_category": "string"}
_NOW = datetime.now(timezone.utc).isoformat()

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
_LIKE_NUMBERS = st.sampled_from(["017", "17", "1E5", "-0", "1.50", "NA", "nan", "null", "true", "12345678901234567890"])
_ROWS = st.dictionaries(
    (_TEXT | _LIKE_NUMBERS).filter(str.strip),
    st.fixed_dictionaries(
        {},
        optional={
            "amount": st.floats(-1e30, 1e30),
            "velocity_last_24h": st.integers(-(2**53), 2**53),
            "merchant_category": _TEXT | _LIKE_NUMBERS,
        },
    ),
    min_size=1,
    max_size=8,
)


@functools.cache
def bundle() -> Bundle:
    """A model that takes all it is given from the request or the store."""
    return train_bundle(card_table(), _USE_CASE, rounds=2)


def write_csv(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Write rows by key into `in.csv`, what is missing as an empty field."""
    with Path("in.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow([*_TYPES, "timestamp"])
        writer.writerows([key, *(row.get(name, "") for name in [*_TYPES][1:]), _NOW] for key, row in rows.items())


class Commands:
    """The commands as a user types them."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, and what is printed and said."""
        code = run_cli(LINE.main, words)
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err

    def get(self, key: str) -> dict[str, Any]:
        """The values that are found for a key."""
        code, printed, said = self.run("get", "--json", "--", key)
        assert code == 0, said
        return json.loads(printed)["values"]


def answers(*rows: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What HTTP answers with the store at `online.db`, without where the values came from."""
    with closing(LocalFeatures(lambda: SqliteStore(Path("online.db"), bundle().manifest.view), retry_s=0.01)) as stage:
        found = run(build_app(stage, bundle=bundle()).post(list(rows), "/predict?detail=1")).json()
    return [
        {
            "probability": each["probability"],
            "values": {name: feature["value"] for name, feature in each["features"].items()},
        }
        for each in found
    ]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_ROWS)
def test_convert_materialize_get_and_http_agree(
    rows: dict[str, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """Any key and values of a CSV file are found by `get`, and used over HTTP, as if they had been sent."""
    commands = Commands(capsys)
    monkeypatch.chdir(tmp_path_factory.mktemp("place"))
    Path("case.toml").write_text(_CASE)
    for name, value in {"USE_CASE": "case.toml", "VAR_DIR": ".", "SQLITE_FILE": "online.db"}.items():
        monkeypatch.setenv(f"RAYSCORE_{name}", value)
    write_csv(rows)
    types = [f"{name}={kind}" for name, kind in _TYPES.items()]
    for words in (["convert", "in.csv", "t.parquet", "--types", *types], ["materialize", "t.parquet"]):
        code, _, said = commands.run(*words)
        assert code == 0, said
    stored = answers(*({"user_id": key} for key in rows))
    sent = answers(*({"user_id": "stranger", **row} for row in rows.values()))
    assert stored == sent
    assert commands.get(next(iter(rows))) == stored[0]["values"]
