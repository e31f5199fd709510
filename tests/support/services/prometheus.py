"""A real Prometheus for tests: run by a configuration, asked by its API."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.environment.ports import free_port
from tests.support.environment.processes import listening
from tests.support.environment.waiting import wait_for
from tests.support.services import http_client
from tests.support.services.application import Workplace

DEPLOY = Path(__file__).parents[3] / "deploy"


RULE_FILES = sorted(path for path in DEPLOY.glob("*alerts.yml"))
"""The files of alert rules."""


def alert_rules(*files: Path) -> list[dict[str, Any]]:
    """The alert rules of files, in their order; recording rules are left out."""
    groups = [group for file in files for group in yaml.safe_load(file.read_text("utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def promtool(*arguments: str, stdin: str | None = None) -> str:
    """Run promtool and return what it says; fail with that when it finds anything wrong."""
    done = subprocess.run(["promtool", *arguments], input=stdin, capture_output=True, text=True, timeout=120)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def configuration(place: Workplace, *rules: Path) -> dict[str, Any]:
    """The shipped configuration with the addresses of a workplace, and these files of rules."""
    (dashboard,) = [port for pid in place.processes("dashboard/dashboard.py") for port in listening(pid, "127.0.0.1")]
    haproxy = place.environment["RAY_SERVE_HAPROXY_METRICS_PORT"]
    text = (DEPLOY / "prometheus.yml").read_text("utf-8")
    for shipped, here in (
        ("app:8000", f"127.0.0.1:{place.port}"),
        ("app:8265", f"127.0.0.1:{dashboard}"),
        ("}:9101", f"}}:{haproxy}"),
    ):
        assert shipped in text
        text = text.replace(shipped, here)
    config = yaml.safe_load(text)
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = list(map(str, rules))
    return config


class Prometheus:
    """One that runs."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str, **parameters: str) -> Any:
        """The data of one API call."""
        reply = http_client.get(f"{self._url}/api/v1/{path}", params=parameters, timeout=10)
        assert reply.status_code == 200, reply.text
        return reply.json()["data"]

    def query(self, expression: str) -> list[float]:
        """What an expression gives now, NaN left out."""
        values = [float(each["value"][1]) for each in self.get("query", query=expression)["result"]]
        return [value for value in values if not math.isnan(value)]

    def wait_for_data(self, queries: Sequence[str], traffic: Callable[[], None]) -> None:
        """Make traffic until each query of a board gives figures; fails with those that do not."""
        missing: list[str] = []

        def all_there() -> bool:
            traffic()
            asked = [query.replace("$__rate_interval", "30s") for query in queries]
            missing[:] = [query for query in asked if not self.query(query)]
            return not missing

        try:
            wait_for(all_there, "data for every query", 120)
        except AssertionError:
            pytest.fail(f"no data for {missing}")

    @property
    def is_ready(self) -> bool:
        """True once it takes queries."""
        try:
            return http_client.get(f"{self._url}/-/ready", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def running(config: dict[str, Any], folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus by a configuration until the block ends."""
    file, port = folder / "prometheus.yml", free_port()
    # Every JSON document is YAML too; the dumper would write anchors for what is the same twice.
    file.write_text(yaml.safe_dump(json.loads(json.dumps(config))), "utf-8")
    command = [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        prometheus = Prometheus(f"http://127.0.0.1:{port}")

        def ready() -> bool:
            assert child.poll() is None, (folder / "prometheus.log").read_text("utf-8")
            return prometheus.is_ready

        wait_for(ready, "Prometheus to be ready")
        yield prometheus
    finally:
        child.terminate()
        child.wait(30)
