"""From nothing to live predictions by one command, and nothing left behind by Ctrl-C."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from data.distributed.child_process import child_command
from tests.support.environment.command_line import OURS, write_shadows
from tests.support.environment.waiting import wait_for
from tests.support.services import http_client
from tests.support.services.application import Workplace, serve_command

pytestmark = pytest.mark.ray

DEMO = tuple(child_command("ray_app.cli.rayscore", "main", "demo", "--rows", "6000", "--trials", "2"))


def test_the_demo_serves_until_interrupted_and_reuses_what_is_there(tmp_path: Path) -> None:
    """An interrupted demo leaves no process and no half-written file; run again it serves; a third run reuses all.

    All of it beside files that are named like our packages, which neither its steps nor its replicas import.
    """
    # A `ray.py` there ends the processes of Ray's own dashboard, which import from the working directory.
    place = Workplace(write_shadows(tmp_path, OURS), "card_fraud")
    with place.running(*DEMO) as child:
        wait_for(lambda: "[3/9]" in place.log() and bool(place.processes("raylet")), "the search to start")
        child.send_signal(signal.SIGINT)
        assert child.wait(180) == 130
    wait_for(lambda: not place.processes(), "every process of the interrupted demo to be gone")

    with place.running(*DEMO) as child:
        wait_for(lambda: "serving until Ctrl-C" in place.log() or child.poll() is not None, "the demo to serve", 800)
        assert child.poll() is None, place.log()
        assert http_client.get(f"{place.url}/ready").status_code == 200
        child.send_signal(signal.SIGINT)
        assert child.wait(180) == 0, place.log()
    wait_for(lambda: not place.processes(), "every process of the demo to be gone")
    assert "curl -s" in place.log()
    assert not [file for file in place.var.rglob("*") if "partial" in file.name]

    with place.running(*DEMO, "--once") as child:
        assert child.wait(300) == 0, place.log()
    assert place.log().count("reused:") == 6


@pytest.mark.parametrize("use_case", ["post_sentiment", "delivery_time"])
def test_the_demo_of_another_kind_of_target_ends_with_a_proof(tmp_path: Path, use_case: str) -> None:
    """Classes by a text, and numbers, go the whole way, from a generated table to a proof row by row."""
    place = Workplace(tmp_path, use_case)
    options = ("--use-case", use_case, "--rows", "4000", "--trials", "2", "--once")
    with place.running(*child_command("ray_app.cli.rayscore", "main", "demo", *options)) as child:
        assert child.wait(500) == 0, place.log()
    assert "400 rows, 0 differ" in place.log()


def test_a_taken_port_is_said_before_any_work(tmp_path: Path) -> None:
    """The demo refuses to start when its port is taken, and says which setting changes it."""
    place = Workplace(tmp_path, "card_fraud")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", place.port))
        taken.listen()
        done = place.run("ray_app", "demo", "--rows", "6000")

    assert done.returncode == 2
    assert "RAYSCORE_HTTP_PORT" in done.stderr
    assert not place.var.exists()


def test_serving_without_a_model_says_what_to_do(tmp_path: Path) -> None:
    """`serve run` with an empty registry ends with one clear message, no traceback, and starts no Ray."""
    place = Workplace(tmp_path, "card_fraud")
    with place.running(*serve_command("graph")) as child:
        assert child.wait(180) == 2

    assert "card_fraud" in place.log()
    assert "RAYSCORE_REGISTRY_WAIT_S" in place.log()
    assert "Traceback" not in place.log()
    assert not place.processes()
