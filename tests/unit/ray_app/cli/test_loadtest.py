"""`rayscore loadtest`: exit codes, reports and mixes, against a real server."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import orjson
import pyarrow as pa
import pytest

from data.cli.terminal import run_cli
from data.errors import ConfigError, DataError
from data.sources.atomic_output import write_table
from ray_app.__main__ import main
from ray_app.loadtest.http_client.target import Target, parse_url
from ray_app.loadtest.recording import recorded_sources
from ray_app.loadtest.replica_watch import running
from ray_app.loadtest.request_bodies import bodies
from ray_app.protocol.openapi import openapi
from tests.support.environment.ports import free_port
from tests.support.load.loadtest import DOCUMENT, always, answer, serving
from tests.support.serving.predict_app import FULL, build_app, manifest, run
from tests.support.serving.window_app import swipe, swipes_app, swipes_bundle

QUICK = ("--rps", "20", "--duration", "1", "--warmup", "0.2")


async def slow(number: int, body: bytes) -> bytes:
    """Answer after 0.2 s, beside which the lateness of a busy test machine is small."""
    await asyncio.sleep(0.2)
    return answer()


def loadtest(target: Target, *options: str) -> int:
    """The command's exit code."""
    return run_cli(main, ["loadtest", "--url", target.url, *QUICK, *options])


def test_held_and_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Exit code 0 and a whole report when the objective is held, 1 when it is missed."""
    # That a late generator makes a result void has its own tests; here the machine may be as busy as it is.
    monkeypatch.setattr("ray_app.loadtest.verdict.LATENESS_FLOOR_S", 60.0)
    with serving(slow) as target:
        assert loadtest(target, "--slo", "p99=4s,errors=0", "--out", str(tmp_path / "out")) == 0
        assert "**SLO held**" in capsys.readouterr().out
        assert loadtest(target, "--slo", "p50=1ms") == 1
        assert "p50=1ms: MISSED" in capsys.readouterr().out
        assert loadtest(target) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert (report["requests"], report["errors"], report["statuses"]) == (20, 0, {"200": 20})
    assert report["slo"]["held"]
    assert report["latency_ms"]["p50"] >= 200
    assert sum(second["asked"] for second in report["seconds"]) == 20
    assert (tmp_path / "out" / "report.md").read_text("utf-8").startswith("## Load test of ")
    assert (tmp_path / "out" / "report.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_errors_miss(capsys: pytest.CaptureFixture[str]):
    """Answers that are not 2xx are errors, and are said by kind each second."""
    with serving(always(answer(503))) as target:
        assert loadtest(target, "--slo", "errors=0") == 1
    printed = capsys.readouterr()
    assert "| all, failed ones as at least 5 s | 20 | 5,000 |" in printed.out
    assert "| 5xx | 20 | " in printed.out
    assert "errors=0: MISSED, measured 20" in printed.out
    assert "5xx" in printed.err


def test_unreachable(capsys: pytest.CaptureFixture[str]):
    """Exit code 2 names the address that was tried when nobody listens there."""
    port = free_port()
    assert loadtest(Target("127.0.0.1", port)) == 2
    assert f"tried GET http://127.0.0.1:{port}/openapi.json" in capsys.readouterr().err


@contextmanager
def held_up(seconds: float, every_s: float) -> Iterator[None]:
    """Have this process's main thread, in which the generator runs, do nothing for a while again and again."""
    before = signal.signal(signal.SIGALRM, lambda number, frame: time.sleep(seconds))
    signal.setitimer(signal.ITIMER_REAL, every_s, every_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_generator_was_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Exit code 3 and no report when requests could not leave on time, here because the generator was held up."""
    with serving(always(answer())) as target, held_up(0.3, every_s=0.5):
        options = ("--rps", "200", "--duration", "2", "--warmup", "0", "--out", str(tmp_path / "out"))
        assert loadtest(target, *options) == 3
    printed = capsys.readouterr()
    assert "the generator was the limit" in printed.err
    assert printed.out == ""
    assert not (tmp_path / "out").exists()


def test_interrupted():
    """Ctrl-C ends the test with exit code 130 and a report of what was measured so far."""
    with serving(slow) as target:
        command = [sys.executable, "-m", "ray_app", "loadtest", "--url", target.url, "--rps", "20"]
        with subprocess.Popen(
            [*command, "--duration", "600", "--warmup", "0", "--slo", "errors=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[4],
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if "2 s:" in line:
                    break
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in out
    assert "| all | " in out


@pytest.mark.parametrize(
    "options",
    [
        ("--slo", "p99=fast"),
        ("--url", "ftp://x"),
        ("--url", "127.0.0.1:8000"),
        ("--rps", "1e7", "--duration", "1e4"),
        ("--connections", "100000000"),
        ("--mix", "/no/such/file"),
    ],
)
def test_wrong_options(options: tuple[str, ...]):
    """A wrong option is exit code 2, before anything is sent to be measured."""
    with serving(always(answer())) as target:
        assert loadtest(target, *options) == 2


def test_example_of_the_service_varied_over_entities():
    """Without a mix the real document's example is sent, for a thousand entities."""
    sent = [orjson.loads(body) for body in bodies(openapi(manifest(), "1", 10), None)]
    assert len({row["user_id"] for row in sent}) == 1000
    assert all(row.keys() == sent[0].keys() for row in sent)


def test_each_made_up_row_of_a_model_with_windows_is_a_new_event_of_nobody_real(tmp_path: Path):
    """Entities and values of events are sent, no window and no key: a body sent twice is two events, both recorded."""
    sent = bodies(openapi(swipes_bundle().manifest, "1", 10), None)
    rows = [orjson.loads(body) for body in sent]
    assert {row["card_id"] for row in rows} == {f"loadtest_{at}" for at in range(1, 1001)}
    assert all(row.keys() == {"card_id", "terminal_id", "amount", "channel"} for row in rows)
    with swipes_app(tmp_path / "events.db") as served:
        answers = [run(served.post(row, "/predict?detail=1")).json() for row in (rows[0], rows[0], rows[1])]
    assert [answer["features"]["card_count_1d"]["value"] for answer in answers] == [0, 1, 0]
    assert all(answer["recorded"] for answer in answers)


def test_rows_of_a_table_keep_their_keys_and_times_as_events(tmp_path: Path):
    """A table's own key and time are sent, so that its rows are events once, however often they are sent."""
    write_table(pa.Table.from_pylist([swipe(1, 2), swipe(2, 3)]), tmp_path / "mix.parquet")
    sent = [orjson.loads(body) for body in bodies(openapi(swipes_bundle().manifest, "1", 10), tmp_path / "mix.parquet")]
    with swipes_app(tmp_path / "events.db") as served:
        answers = [run(served.post(row, "/predict?detail=1")).json() for row in (*sent, *sent)]
    assert [answer["features"]["card_count_1d"]["value"] for answer in answers] == [0, 1, 0, 1]


def test_service_that_records_is_loaded_only_with_leave(capsys: pytest.CaptureFixture[str]):
    """Nothing is sent to a service that would store it, and the reason is one line, until --record says that it may."""
    asked: list[bytes] = []

    async def note(number: int, body: bytes) -> bytes:
        asked.append(body)
        return answer()

    with serving(note, openapi(swipes_bundle().manifest, "1", 10)) as target:
        assert loadtest(target) == 2
        told = " ".join(capsys.readouterr().err.split())
        assert "stores each row that it scores as an event of 'swipes'" in told
        assert "--record" in told
        assert not asked
        assert loadtest(target, "--record", "--slo", "errors=0") == 0
        assert "stored as an event of swipes" in capsys.readouterr().err
    assert asked


def test_service_that_does_not_record_says_so():
    """The document of a model without windows, and of one that records nothing, names no source."""
    manifest_of_windows = swipes_bundle().manifest
    silent = {name: source.model_copy(update={"record": False}) for name, source in manifest_of_windows.events.items()}
    unrecorded = manifest_of_windows.model_copy(update={"events": silent})
    assert recorded_sources(openapi(manifest_of_windows, "1", 10)) == ("swipes",)
    for document in (openapi(manifest(), "1", 10), openapi(unrecorded, "1", 10), None, {}, {"components": 3}):
        assert recorded_sources(document) == ()


def test_mix_of_json_lines(tmp_path: Path):
    """JSON lines are sent as they are, blank ones left out; a bad line is named."""
    file = tmp_path / "mix.jsonl"
    file.write_text('{"a": 1}\n\n[{"a": 2}]\n', "utf-8")
    assert bodies(None, file) == [b'{"a": 1}', b'[{"a": 2}]']
    for bad in ("{", "3"):
        file.write_text(f'{{"a": 1}}\n{bad}\n', "utf-8")
        with pytest.raises(DataError, match="line 2"):
            bodies(None, file)
    file.write_text("\n", "utf-8")
    with pytest.raises(DataError, match="holds no line"):
        bodies(None, file)


def test_mix_of_parquet(tmp_path: Path):
    """Of a table the service's own fields are sent, nulls left out; a missing required column is named."""
    file = tmp_path / "mix.parquet"
    write_table(pa.table({"user_id": ["a", "b"], "amount": [1.5, None], "label": [0, 1]}), file)
    assert [orjson.loads(body) for body in bodies(DOCUMENT, file)] == [
        {"user_id": "a", "amount": 1.5},
        {"user_id": "b"},
    ]
    write_table(pa.table({"user_id": ["a"]}), file)
    with pytest.raises(DataError, match="amount"):
        bodies(DOCUMENT, file)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("transaction_id", pa.array([7.0, None])),
        ("transaction_id", pa.array([Decimal("7.00"), None])),
        ("transaction_id", pa.array(["007", ""])),
        ("user_id", pa.array([17, 18])),
        ("user_id", pa.array(["a", "b"]).dictionary_encode()),
        ("transaction_hour", pa.array([3.0, 4.0])),
        ("merchant_category", pa.array([5411, 5812])),
        ("foreign_transaction", pa.array([True, False])),
        ("amount", pa.array([Decimal("1.50"), Decimal("2.00")])),
        ("cardholder_age", pa.array([float("nan"), 40.0])),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_rows_of_a_table_are_sent_as_the_service_declares(tmp_path: Path, column: str, values: pa.Array):
    """However a table holds a key, an entity or a feature, its rows are requests that the service answers."""
    rows = pa.table({name: [value] * 2 for name, value in FULL.items()})
    rows = rows.drop_columns([column]) if column in FULL else rows
    write_table(rows.append_column(column, values), tmp_path / "mix.parquet")
    served = build_app()
    for body in bodies(openapi(manifest(), "1", 1000), tmp_path / "mix.parquet"):
        assert run(served.send(body)).status_code == 200, body


def test_column_that_no_request_can_carry_is_told(tmp_path: Path):
    """A column of another type than the field's is refused by name before anything is sent."""
    write_table(pa.table({name: [value] for name, value in {**FULL, "amount": "much"}.items()}), tmp_path / "m.parquet")
    with pytest.raises(DataError, match=r"--mix .*m\.parquet: column 'amount' holds string, expected numbers"):
        bodies(openapi(manifest(), "1", 1000), tmp_path / "m.parquet")


def test_service_without_a_document():
    """Another server's document cannot stand for the fields: a mix is asked for."""
    for document in (None, {}, {"components": {"schemas": {"Row": {"properties": 1}}}}):
        with pytest.raises(ConfigError, match="--mix FILE"):
            bodies(document, None)


def test_urls():
    """An address may have a route prefix, TLS and IPv6; requests go under the prefix."""
    target = parse_url("http://[::1]:8000/fraud/")
    assert target.url == "http://[::1]:8000/fraud"
    assert target.post(b"{}").startswith(b"POST /fraud/predict HTTP/1.1\r\nhost: [::1]:8000\r\n")
    assert parse_url("https://example.org").port == 443


def test_replicas_are_counted_by_deployment():
    """Only running replicas count, over all applications."""
    replicas = [{"state": "RUNNING"}, {"state": "STARTING"}, {"state": "RUNNING"}]
    document = {"applications": {"default": {"deployments": {"Model": {"replicas": replicas}, "Gateway": {}}}}}
    assert running(document) == {"Model": 2, "Gateway": 0}
