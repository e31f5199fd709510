"""`serve run` in a cluster that already runs: host and port of the settings act there, or are refused by name."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_app.environment.listeners import bind_fault
from ray_app.environment.serve_environment import serve_environment
from tests.support.environment.ports import free_port
from tests.support.environment.waiting import wait_for
from tests.support.services.application import BIN, Workplace, serve_command

pytestmark = pytest.mark.ray


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    """A folder with a champion and a cluster of its own, which ends with the test."""
    place = Workplace(tmp_path)
    place.fill_store(place.write_recent_table())
    place.publish_champion()
    port = free_port()
    place.environment |= {**serve_environment(), "RAY_ADDRESS": f"127.0.0.1:{port}"}
    command = (str(BIN / "ray"), "start", "--head", "--block", f"--port={port}", "--num-cpus=2")
    options = ("--include-dashboard=false", "--object-store-memory=200000000", "--disable-usage-stats")
    head = subprocess.Popen(
        [*command, *options, f"--ray-client-server-port={free_port()}"],
        env={**place.environment, "RAY_ADDRESS": ""},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield place
    head.send_signal(signal.SIGTERM)
    head.wait(60)
    for pid in place.processes():
        os.kill(pid, signal.SIGKILL)


def refusal(place: Workplace, **given: str) -> str:
    """What `serve run` says when it refuses to run with these variables too."""
    done = subprocess.run(
        serve_command("graph"),
        env={**place.environment, **given},
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    return done.stderr


def test_settings_act_in_a_running_cluster(place: Workplace):
    """The application listens where the settings say and on no other interface; what cannot act then is refused."""
    with place.running(*serve_command("graph")) as child:
        place.wait_ready(child)
        assert (bind_fault("127.0.0.2", place.port), bind_fault("127.0.0.1", place.port) is None) == (None, False)
        other_host = refusal(place, RAYSCORE_HTTP_HOST="0.0.0.0")
        other_variable = refusal(place, RAY_SERVE_HAPROXY_NBTHREAD="3")
        child.send_signal(signal.SIGINT)
        child.wait(180)
    assert f"already listens on 127.0.0.1:{place.port} in this cluster, so RAYSCORE_HTTP_HOST=0.0.0.0" in other_host
    assert "error: RAY_SERVE_HAPROXY_NBTHREAD=3 (there it is 1) cannot act in the running cluster at" in other_variable
    wait_for(lambda: bind_fault("127.0.0.1", place.port) is None, "the port to be free")
