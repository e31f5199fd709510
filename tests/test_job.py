"""Tuning as a job of a running cluster, the way `docs/training.md` says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support_app import BIN, Workplace, free_port, wait_for
from tests.support_model import write_card_table
from tune.registry import Registry

REPO = Path(__file__).parents[1]


def head_command(dashboard_port: int) -> list[str]:
    """A cluster as `ray start` makes one, on ports of its own: the agent's fixed one may be another cluster's."""
    ports = {
        "port": free_port(),
        "dashboard-port": dashboard_port,
        "dashboard-agent-listen-port": free_port(),
        "dashboard-agent-grpc-port": free_port(),
        "ray-client-server-port": free_port(),
    }
    options = [f"--{name}={port}" for name, port in ports.items()]
    return [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2", "--object-store-memory=150000000", *options]


@pytest.mark.ray
def test_a_submitted_job_tunes_and_registers(tmp_path: Path) -> None:
    """`ray job submit --working-dir . -- python -m tune ...` searches on the cluster and registers a challenger."""
    place = Workplace(tmp_path)
    # The cluster's `python` is the one of the environment it was started in.
    place.environment["PATH"] = f"{BIN}:{place.environment['PATH']}"
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    table = write_card_table(tmp_path / "card.parquet")

    def job_agent_is_up() -> bool:
        try:
            nodes = httpx.get(f"{address}/api/jobs/", timeout=5)
            agents = httpx.get(f"{address}/api/v0/nodes", timeout=5)
        except httpx.HTTPError:
            return False
        return nodes.status_code == 200 and agents.status_code == 200

    def submit() -> subprocess.CompletedProcess[str]:
        job = ["python", "-m", "tune", "--data", str(table), "--trials", "2"]
        command = [str(BIN / "ray"), "job", "submit", "--address", address, "--working-dir", ".", "--", *job]
        return subprocess.run(command, env=place.environment, cwd=REPO, capture_output=True, text=True, timeout=300)

    done: list[subprocess.CompletedProcess[str]] = []

    def submitted() -> bool:
        done.append(submit())
        # The dashboard answers some seconds before the node's job agent has reported to it.
        return "No available agent" not in done[-1].stderr

    with place.running(*head_command(port)):
        wait_for(job_agent_is_up, "the cluster's dashboard")
        wait_for(submitted, "the cluster's job agent", 120)

    assert done[-1].returncode == 0, done[-1].stdout + done[-1].stderr
    settings = place.settings
    found = Registry(settings.tracking_uri, settings.artifact_dir).resolve("card_fraud", "challenger")
    assert found.version == "1"
