"""A real application for end-to-end tests: registry, store and `serve run`, in a folder and on ports of its own."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from data.distributed.pieces import each_block_here, parquet_pieces
from data.online_store import open_store
from data.online_store.materialization import packer, write
from data.schema.use_case import load_use_case
from data.settings import Settings
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source
from tests.support.environment.ports import free_port
from tests.support.environment.processes import by_command_line, read
from tests.support.environment.waiting import WAIT_S, wait_for
from tests.support.services import http_client
from tests.support.training.models import card_bundle, card_table
from tests.support.training.registry import new_registry
from tests.support.training.stored_cards import STORED_CARDS
from tune.registry.bundle import Bundle
from tune.registry.registry import Registry
from tune.registry.traffic_rules import CHAMPION
from tune.search.mlflow_runs import MlflowRuns

BIN = Path(sys.executable).parent
REQUEST_FEATURES = ("amount", "transaction_hour", "merchant_category", "foreign_transaction", "location_mismatch")
"""Features of the card use case that a request has to carry."""
ONLINE_FEATURES = ("device_trust_score", "velocity_last_24h", "cardholder_age")
"""Those that come from the online store when a request does not carry them."""
START_TIMEOUT_S = 240.0
_SERVE_PORTS = ("FALLBACK_PROXY_HTTP", "FALLBACK_PROXY_GRPC", "HAPROXY_STATS", "HAPROXY_METRICS")


class Workplace:
    """A folder with the environment that makes commands use it; every process of it can be found by its name.

    Args:
        folder: one that exists.
        use_case: name or file of the use case that commands go by when they are told of none.
    """

    def __init__(self, folder: Path, use_case: str | Path = STORED_CARDS) -> None:
        self.folder = folder
        self.var = folder / "var"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAYSCORE_")},
            "RAYSCORE_VAR_DIR": str(self.var),
            "RAYSCORE_USE_CASE": str(use_case),
            "RAYSCORE_HTTP_PORT": str(self.port),
            "RAYSCORE_REGISTRY_WAIT_S": "0",
            "RAY_AUTH_MODE": "disabled",
            # Two services that start at the same time both find Serve's fixed ports free.
            **{f"RAY_SERVE_{name}_PORT": str(free_port()) for name in _SERVE_PORTS},
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def settings(self) -> Settings:
        """The settings that the commands of this workplace read."""
        return Settings(var_dir=self.var, http_port=self.port, use_case=self.environment["RAYSCORE_USE_CASE"])

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m COMMAND` to its end."""
        argv = [sys.executable, "-m", *command]
        return subprocess.run(argv, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=300)

    @contextmanager
    def running(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command in the background, its output in `<folder>/log`; kill it with the block if it still runs."""
        # A shell that started the tests in the background has SIGINT ignored, which children would inherit.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with (self.folder / "log").open("wb") as log:
            child = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield child
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                child.wait(WAIT_S)

    def log(self) -> str:
        """What the background command has printed so far."""
        return (self.folder / "log").read_text(errors="replace")

    def processes(self, word: str = "") -> list[int]:
        """Pids of the living processes of this workplace whose command line holds `word`."""
        mark = f"RAYSCORE_VAR_DIR={self.var}".encode()
        return [pid for pid in by_command_line(word) if mark in read(pid, "environ")]

    def kill_all(self) -> None:
        """Kill the processes of this workplace: asked to end, a cluster takes half a minute to do so."""

        def gone() -> bool:
            left = self.processes()
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        wait_for(gone, "the killed processes to be gone")

    def shown(self, series: str) -> float:
        """The value of the first series on `/metrics` that begins so, the answering gateway's; NaN without one."""
        try:
            text = http_client.get(f"{self.url}/metrics", timeout=30).text
        except httpx.HTTPError:
            return math.nan
        found = re.search(rf"^{re.escape(series)}.* (\S+)$", text, re.M)
        return float(found[1]) if found else math.nan

    def wait_ready(self, child: subprocess.Popen[bytes]) -> None:
        """Wait until the application answers /ready with 200."""

        def ready() -> bool:
            assert child.poll() is None, self.log()
            try:
                return http_client.get(f"{self.url}/ready", timeout=5).status_code == 200
            except httpx.HTTPError:
                return False

        wait_for(ready, "the application to be ready", START_TIMEOUT_S)

    def publish_champion(self, bundle: Bundle | None = None) -> None:
        """Register a bundle, by default `card_bundle()`, as champion, without a search."""
        new_registry(self.var)
        settings = self.settings
        run = MlflowRuns(settings.tracking_uri, settings.artifact_dir, "test").start("test", {})
        registry = Registry(settings.tracking_uri, settings.artifact_dir)
        bundle = bundle or card_bundle()
        registry.set_alias(bundle.manifest.name, CHAMPION, registry.publish(bundle, run))

    def fill_store(self, table: Path) -> None:
        """Do what `python -m data materialize` does with a small table, without the cluster that it starts."""
        use_case, source = load_use_case(self.settings.use_case), open_source(table)
        pack, pieces = packer(source, use_case, time.time_ns() // 1000), parquet_pieces(source)
        with closing(open_store(self.settings, use_case.view, create=True)) as store:
            write(each_block_here(pieces, pack), store, lambda rows: None)

    def write_recent_table(self, name: str = "card.parquet", rows: int = 600) -> Path:
        """Write `card_table` with event times of the last hours, so that no row is past its time to live."""
        table = card_table(rows)
        now = datetime.now(timezone.utc)
        times = [now - timedelta(minutes=rows - i) for i in range(rows)]
        at = table.column_names.index("timestamp")
        table = table.set_column(at, "timestamp", pa.array(times, pa.timestamp("us", "UTC")))
        path = self.folder / name
        write_table(table, path)
        return path


def serve_command(target: str) -> Sequence[str]:
    """The command that a user types."""
    return (str(BIN / "serve"), "run", f"ray_app:{target}")


def stored_rows(place: Workplace, count: int) -> list[dict[str, Any]]:
    """The first rows of the table that the place's store was filled from."""
    return pq.read_table(place.folder / "card.parquet").slice(0, count).to_pylist()


def request_body(row: dict[str, Any], *names: str) -> dict[str, Any]:
    """A request that asks about a row: entity, key, what a request has to carry, and the features `names`."""
    return {name: row[name] for name in ("user_id", "transaction_id", *REQUEST_FEATURES, *names)}
