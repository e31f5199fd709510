"""Work as jobs of a running cluster, the way `docs/deployment.md` says."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import httpx
import pyarrow.parquet as pq
import pytest
from ray._private.runtime_env.packaging import create_package

from tests.support.environment.ports import free_port
from tests.support.environment.waiting import wait_for
from tests.support.services import http_client
from tests.support.services.application import BIN, START_TIMEOUT_S, Workplace
from tests.support.training.models import card_bundle, write_card_table
from tests.support.training.registry import new_registry
from tune.registry.registry import Registry

REPO = Path(__file__).parents[3]
PACKAGE_LIMIT = 10 * 2**20
Submit = Callable[..., subprocess.CompletedProcess[str]]


def head_command(dashboard_port: int, folder: str) -> list[str]:
    """A cluster as `ray start` makes one, on ports of its own: the agent's fixed one may be another cluster's.

    In Ray's usual folder other tests' `serve run` would find the address, and take it for the cluster to run on.
    """
    ports = {
        "port": free_port(),
        "dashboard-port": dashboard_port,
        "dashboard-agent-listen-port": free_port(),
        "dashboard-agent-grpc-port": free_port(),
        "ray-client-server-port": free_port(),
    }
    options = ["--num-cpus=2", "--labels=pool=batch", "--object-store-memory=150000000", f"--temp-dir={folder}"]
    options += [f"--{name}={port}" for name, port in ports.items()]
    return [str(BIN / "ray"), "start", "--head", "--block", *options]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Where the cluster's jobs keep their files."""
    made = Workplace(tmp_path_factory.mktemp("job"))
    new_registry(made.var)
    # The cluster's `python` is the one of the environment it was started in.
    made.environment["PATH"] = f"{BIN}:{made.environment['PATH']}"
    return made


@pytest.fixture(scope="module")
def submit(jobs: Workplace) -> Iterator[Submit]:
    """`ray job submit` of a Python command to a running cluster."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"

    def job_agent_is_up() -> bool:
        try:
            nodes = http_client.get(f"{address}/api/jobs/", timeout=5)
            agents = http_client.get(f"{address}/api/v0/nodes", timeout=5)
        except httpx.HTTPError:
            return False
        return nodes.status_code == 200 and agents.status_code == 200

    def submit_once(*job: str) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "ray"), "job", "submit", "--address", address, "--working-dir", ".", "--", "python", *job]
        return subprocess.run(command, env=jobs.environment, cwd=REPO, capture_output=True, text=True, timeout=300)

    def submit(*job: str) -> subprocess.CompletedProcess[str]:
        done: list[subprocess.CompletedProcess[str]] = []

        def submitted() -> bool:
            done.append(submit_once(*job))
            # The dashboard answers some seconds before the node's job agent has reported to it.
            return "No available agent" not in done[-1].stderr

        wait_for(submitted, "the cluster's job agent", 120)
        return done[-1]

    # Not a folder of pytest: the path of a socket has at most 107 characters.
    with (
        TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        jobs.running(*head_command(port, folder)),
    ):
        wait_for(job_agent_is_up, "the cluster's dashboard", START_TIMEOUT_S)
        yield submit
        jobs.kill_all()


@pytest.mark.ray
def test_a_submitted_job_tunes_and_registers(jobs: Workplace, submit: Submit) -> None:
    """`ray job submit --working-dir . -- python -m tune ...` searches on the cluster and registers a challenger."""
    table = write_card_table(jobs.folder / "card.parquet")
    done = submit("-m", "tune", "--data", str(table), "--trials", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    settings = jobs.settings
    found = Registry(settings.tracking_uri, settings.artifact_dir).resolve("card_fraud", "challenger")
    assert found.version == "1"


@pytest.mark.ray
def test_a_submitted_job_scores_where_it_is_told(jobs: Workplace, submit: Submit) -> None:
    """`ray job submit ... python -m ray_app score --label pool=batch` scores on the nodes that carry the label."""
    bundle = card_bundle().save(jobs.folder / "bundle")
    for i in range(3):
        write_card_table(jobs.folder / "in" / f"{i}.parquet", 500)
    out = jobs.folder / "scores.parquet"
    options = ["--bundle", str(bundle), "--label", "pool=batch", "--concurrency", "2"]
    done = submit("-m", "ray_app", "score", *options, str(jobs.folder / "in"), str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert pq.read_metadata(out).num_rows == 1500


def test_package_of_the_working_directory_is_small_and_whole(tmp_path: Path) -> None:
    """What is uploaded with a job holds the three packages and their files, nothing else of size, under 10 MiB."""
    package = tmp_path / "package.zip"
    create_package(str(REPO), package, include_gitignore=True)
    assert package.stat().st_size < PACKAGE_LIMIT
    with ZipFile(package) as zipped:
        names = set(zipped.namelist())
    sources = {file.relative_to(REPO).as_posix() for root in ("data", "tune", "ray_app") for file in _code(REPO / root)}
    assert sources <= names
    assert {name.split("/")[0] for name in names}.isdisjoint({".git", ".venv", "benchmarks", "docs", "tests", "var"})


def _code(root: Path) -> list[Path]:
    return [file for pattern in ("*.py", "*.toml") for file in root.rglob(pattern)]
