"""What the tests of the search share: trials, a small declared search, and a real MLflow server that can be ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from data.schema.search import Metric, Range, Search
from tests.support.environment.ports import free_port
from tests.support.environment.waiting import wait_for
from tests.support.services import http_client
from tests.support.training.registry import new_registry
from tune.search.trial import Trial

DECLARED = Search(
    metric=Metric.AUC,
    max_rounds=40,
    early_stopping_rounds=15,
    space={"max_depth": Range(low=1, high=6, integer=True), "learning_rate": Range(low=0.01, high=0.5, log=True)},
)


def trial(number, history=(0.5,), losses=None, stopped_early=False, params=None):
    """A finished trial."""
    return Trial(
        number=number,
        params=params or {"max_depth": 3, "learning_rate": 0.1},
        history=list(history),
        losses=losses or [0.5] * len(history),
        seconds=1,
        stopped_early=stopped_early,
    )


class MlflowServer:
    """A real `mlflow server` on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = f"http://127.0.0.1:{(port := free_port())}"
        self._command = [
            *(sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"),
            *(
                "--backend-store-uri",
                f"sqlite:///{new_registry(folder) / 'mlflow.db'}",
                "--artifacts-destination",
                str(folder / "a"),
            ),
        ]
        self._process: subprocess.Popen | None = None

    def start(self) -> MlflowServer:
        """Start it, or start it again, and wait until it answers."""
        with (self.folder / "server.log").open("ab") as log:
            # Its queue of jobs for judging language models is six processes more, each of which imports MLflow.
            environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            self._process = subprocess.Popen(
                self._command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self._answers, "the MLflow server", 240)
        return self

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            self.send(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return http_client.get(f"{self.uri}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False
