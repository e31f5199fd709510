"""`rayscore get`: what is shown of a stored row, and which keys are asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.__main__ import LINE
from data.cli.terminal import run_cli, say_json
from data.online_store import StoredRow
from data.online_store.row_codec import RowCodec
from data.online_store.sqlite import SqliteStore
from data.schema.use_case import load_use_case

_CASE = """name = "orders"
label = "y"
event_time = "at"
materialized = {{ every = "1d" }}
entity = {{ column = "user", type = "{}" }}
[features]
spent = {{ type = "number", source = "online" }}
"""
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
Put = Callable[..., None]


def run(argv: list[str]) -> int:
    """Run a command as a user does, and return its exit code."""
    return run_cli(LINE.main, argv)


def refused(constant: str) -> None:
    """Fail on NaN and Infinity, which Python reads although they are not JSON."""
    raise AssertionError(f"{constant} is not JSON")


@pytest.fixture(params=["string", "integer"])
def kind(request: pytest.FixtureRequest) -> str:
    """Type of the entity."""
    return request.param


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> Put:
    """Writes a row of the use case `case.toml` into the store of the settings."""
    (tmp_path / "case.toml").write_text(_CASE.format(kind))
    monkeypatch.setenv("RAYSCORE_VAR_DIR", str(tmp_path))
    monkeypatch.setenv("RAYSCORE_SQLITE_FILE", str(tmp_path / "online.db"))
    monkeypatch.setenv("RAYSCORE_USE_CASE", str(tmp_path / "case.toml"))
    use_case = load_use_case(str(tmp_path / "case.toml"))

    def write(entity: str, value: float, event_us: int | None = None) -> None:
        at_us = time.time_ns() // 1000 if event_us is None else event_us
        with closing(SqliteStore(tmp_path / "online.db", use_case.view, create=True)) as store:
            store.put_many([StoredRow(entity, at_us, RowCodec(use_case.schema_).pack(at_us, [value]))])

    return write


@pytest.mark.parametrize("kind", ["string"], indirect=True)
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 1e300, 1.5, float("nan")])
def test_json_of_any_value_is_json(put: Put, capsys: pytest.CaptureFixture[str], value: float):
    """A value is shown as a model is given it: beyond float32 as the largest float32, a missing one as null."""
    put("a", value)
    assert run(["get", "a", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out, parse_constant=refused)["values"]["spent"]
    expected = None if value != value else min(max(value, -3.4028234663852886e38), 3.4028234663852886e38)
    assert shown == expected
    assert run(["get", "a"]) == 0
    assert f"spent  {'(none)' if expected is None else expected}\n" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["string"], indirect=True)
@pytest.mark.parametrize(
    ("event_us", "shown"),
    [
        (0, "1970-01-01T00:00:00+00:00"),
        (-62_135_596_800_000_000, "0001-01-01T00:00:00+00:00"),
        (-99_000_000_000_000_000, "-1168-10-24T16:00:00.000000+00:00"),
        (-(2**63) + 1, "-290308-12-21T19:59:05.224193+00:00"),
        (2**63 - 1, "294247-01-10T04:00:54.775807+00:00"),
    ],
)
def test_event_time_beyond_the_calendar_is_shown(
    put: Put, capsys: pytest.CaptureFixture[str], event_us: int, shown: str
):
    """Every event time that a store can hold is shown, also before year 1 and after year 9999."""
    put("a", 1.0, event_us)
    assert run(["get", "a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["event_time"] == shown
    assert run(["get", "a"]) == 0
    assert f"a  event time {shown}, age " in capsys.readouterr().out


def test_key_of_another_spelling_is_refused(put: Put, capsys: pytest.CaptureFixture[str], kind: str):
    """Of an integer entity 018 is refused with the spelling to use; of a string entity it is a key like any other."""
    put("18", 1.0)
    code = run(["get", "018"])
    assert (code, "ask for 18" in capsys.readouterr().err) == ((2, True) if kind == "integer" else (1, False))
    assert run(["get", "18"]) == 0
    assert run(["get", " "]) == 2
    assert "is blank" in capsys.readouterr().err


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=_JSON)
def test_every_value_is_printed_as_json(capsys: pytest.CaptureFixture[str], value: object):
    """Whatever a command prints as JSON any parser can read, on one line."""
    say_json(value)
    line, end = capsys.readouterr().out.split("\n")
    assert end == ""
    json.loads(line, parse_constant=refused)
