"""`rayscore materialize` and `get` over every store: what is said of a table is what is then found."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.__main__ import LINE
from data.cli.terminal import run_cli
from data.settings import Settings

_CASE = """name = "c{name}"
label = "y"
event_time = "t"
materialized = {{ every = "1d" }}
entity = {{ column = "e", type = "{kind}" }}
[features]
f = {{ type = "number", source = "online" }}
"""
_MOMENT = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(hours=1)
_LARGEST = 3.4028234663852886e38


class Commands:
    """The two commands with a use case whose view is new; `store` is the name of the driver."""

    def __init__(self, store: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.store = store
        self._capsys = capsys

    def materialize(self, keys: Sequence[str | None], values: Sequence[float]) -> list[str]:
        """Put rows of one moment into the store, and return what was said of them."""
        times = pa.array([_MOMENT] * len(keys), pa.timestamp("us", "UTC"))
        pq.write_table(pa.table({"e": pa.array(keys, pa.string()), "t": times, "f": values}), "t.parquet")
        assert run_cli(LINE.main, ["materialize", "t.parquet"]) == 0
        printed = self._capsys.readouterr()
        said = [*printed.out.splitlines(), *printed.err.splitlines()]
        return [line for line in said if not line.startswith(("materialize: ", "read: "))]

    def outcome(self, rows: int, written: int, unchanged: int = 0) -> str:
        """The line that says what became of the entities of so many rows."""
        counts = f"{written} written to {self.store}, {unchanged} unchanged, 0 older than stored"
        entities = written + unchanged
        named = "1 entity" if entities == 1 else f"{entities} entities"
        return f"t.parquet: {rows} rows read, {named}: {counts}"

    def get(self, key: str) -> float | None:
        """The value that is found for a key, from an answer that is JSON."""
        assert run_cli(LINE.main, ["get", key, "--json"]) == 0
        return json.loads(self._capsys.readouterr().out, parse_constant=pytest.fail)["values"]["f"]

    def refused(self, key: str) -> tuple[int, str]:
        """Exit code and message for a key that is not found."""
        return run_cli(LINE.main, ["get", key]), self._capsys.readouterr().err


@pytest.fixture
def kind() -> str:
    """Type of the entity."""
    return "string"


@pytest.fixture
def commands(
    store_settings: Settings,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Commands:
    """The commands in a folder of their own, with the settings of each driver in turn."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "case.toml").write_text(_CASE.format(name=uuid.uuid4().hex[:8], kind=kind))
    given = store_settings.model_dump(include={"store", "cassandra_hosts", "cassandra_read_timeout_ms"})
    for name, value in {**given, "var_dir": tmp_path, "use_case": "case.toml"}.items():
        monkeypatch.setenv(f"RAYSCORE_{name.upper()}", str(value))
    return Commands(store_settings.store, capsys)


@pytest.mark.parametrize(("first", "later"), [([1, 2], [10, 20]), ([10, 20], [1, 2])])
def test_correction_at_the_same_event_time_is_found(commands: Commands, first: list[float], later: list[float]):
    """Of two runs with the same event times the later one's values are found; a third run finds them unchanged."""
    assert commands.materialize(["k", "j"], first) == [commands.outcome(2, written=2)]
    assert commands.materialize(["k", "j"], later) == [commands.outcome(2, written=2)]
    assert [commands.get("k"), commands.get("j")] == later
    assert commands.materialize(["k", "j"], later) == [commands.outcome(2, written=0, unchanged=2)]


def test_key_twice_at_one_moment_is_one_entity(commands: Commands):
    """One entity is counted and the row that the later one replaced, which is found, whatever the values."""
    superseded = "superseded: 1 row by a later row of their entity, 1 of them at the same event time with other values"
    for values in ([1.0, 2.0], [2.0, 1.0]):
        assert commands.materialize(["k", "k"], values) == [commands.outcome(2, written=1), superseded]
        assert commands.get("k") == values[1]


def test_rows_without_a_key_are_named_and_the_others_written(commands: Commands):
    """'', white space and null are no key, a blank behind one is part of it, and case counts."""
    left_out = "left out: 3 rows without entity: 'e' is blank (t.parquet row 2, t.parquet row 3, t.parquet row 5)"
    said = commands.materialize(["u1", "u1 ", " ", "", "U1", None], [1, 2, 3, 4, 5, 6])
    assert said == [commands.outcome(6, written=3), left_out]
    assert [commands.get(key) for key in ("u1", "u1 ", "U1")] == [1, 2, 5]
    assert all(code == 2 and "is blank" in words for code, words in map(commands.refused, ("", " ")))


@pytest.mark.parametrize("kind", ["integer"])
def test_integer_key_has_one_spelling(commands: Commands):
    """Of text as keys that are integers only what is written as one is taken; another spelling is refused by row."""
    outcome, left_out = commands.materialize(["17", "018"], [1, 2])
    assert outcome == commands.outcome(2, written=1)
    assert left_out.startswith("left out: 1 row whose 'e' is no key of type integer: expected digits alone")
    assert left_out.endswith(" (t.parquet row 1)")
    assert commands.get("17") == 1
    assert commands.refused("18")[0] == 1
    code, words = commands.refused("018")
    assert (code, "ask for 18" in words) == (2, True)


def test_what_no_json_holds_is_shown_as_it_is_used(commands: Commands):
    """Infinity and what no float32 holds are found as the largest float32, NaN as null."""
    commands.materialize(["a", "b", "c", "d"], [float("inf"), float("nan"), 1e300, float("-inf")])
    assert [commands.get(key) for key in "abcd"] == [_LARGEST, None, _LARGEST, -_LARGEST]
