"""Load the served graph, over SQLite or Cassandra, with the product's own load test."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import httpx

from benchmarks.servers import processes
from benchmarks.workloads.cassandra_reads import warm
from data.errors import RayscoreError
from data.online_store.cassandra.store import CassandraStore
from data.settings import Settings
from tests.support.services.application import Workplace, serve_command
from tests.support.services.cassandra import Node
from tests.support.training.models import card_table, train_bundle
from tests.support.training.stored_cards import STORED_CARDS, stored_cards

WARM_UP_S = 3.0
_TRAIN_ROWS = 20_000
_TREES = 100
_BODIES = 5_000
_DEGRADED = re.compile(r"^rayscore_degraded_total(?:\{.*\})? ([\d.e+]+)", re.MULTILINE)
_STAGES = ("GATEWAY", "FEATURE", "MODEL")


class GraphFailed(RayscoreError):
    """A command failed, or the load generator was the limit instead of the graph."""


class Graph:
    """A champion of 100 trees, one table of cards, and both stores filled from it.

    Args:
        folder: an empty folder.
        node: a running Cassandra node.
        rows: number of rows of the table, 20 for each card.

    Raises:
        GraphFailed: a store could not be filled.
    """

    def __init__(self, folder: Path, node: Node, rows: int) -> None:
        folder.mkdir()
        self._place = Workplace(folder, STORED_CARDS)
        # One replica of each stage: its counters are then those of the whole service.
        self._place.environment |= {f"RAYSCORE_{stage}_MAX_REPLICAS": "1" for stage in _STAGES}
        self.stores: dict[str, dict[str, str]] = {
            "SQLite": {},
            "Cassandra": {"RAYSCORE_STORE": "cassandra", "RAYSCORE_CASSANDRA_HOSTS": node.address},
        }
        bundle = train_bundle(card_table(_TRAIN_ROWS), stored_cards(), _TREES)
        self._place.publish_champion(bundle)
        table = self._place.write_recent_table(rows=rows)
        for variables in self.stores.values():
            self._run(variables, "data", "materialize", str(table))
        self.cards = sorted(set(card_table(rows).column("user_id").to_pylist()))
        self._warm(node, bundle.manifest.view)
        asked = [feature.name for feature in bundle.manifest.schema_.features if not feature.online]
        bodies = card_table(rows).select(["user_id", *asked]).slice(0, _BODIES).to_pylist()
        self._mix = folder / "mix.jsonl"
        self._mix.write_text("".join(json.dumps(body) + "\n" for body in bodies))

    def load(self, store: str, rate: float, seconds: float) -> dict[str, float]:
        """Serve the graph over one of `stores` and run one load test.

        Returns percentiles in ms, `errors`, `degraded` (answers without stored values) and `fetch ms`, the CPU of the
        feature-fetch replica a request.

        Raises:
            GraphFailed: the load generator was the limit, or could not run.
        """
        variables = self.stores[store]
        before = dict(self._place.environment)
        self._place.environment |= variables
        try:
            with self._place.running(*serve_command("graph")) as child:
                self._place.wait_ready(child)
                return self._measured(rate, seconds)
        finally:
            self._place.environment = before

    def _warm(self, node: Node, view: str) -> None:
        settings = Settings(store="cassandra", cassandra_hosts=node.address)
        with closing(CassandraStore(settings, view)) as store:
            asyncio.run(warm(store, self.cards))

    def _measured(self, rate: float, seconds: float) -> dict[str, float]:
        out = self._place.folder / "loadtest"
        fetch = self._place.processes("ServeReplica:default:FeatureFetch")
        degraded, cpu = self._degraded(), processes.cpu_seconds(fetch)
        given = ["--url", self._place.url, "--mix", str(self._mix), "--out", str(out), "--warmup", str(WARM_UP_S)]
        self._run({}, "ray_app", "loadtest", "--rps", str(rate), "--duration", str(seconds), *given)
        used_s = sum(processes.cpu_seconds(fetch).values()) - sum(cpu.values())
        report = json.loads((out / "report.json").read_text())
        return {
            **report["latency_ms"],
            "errors": report["errors"],
            "degraded": self._degraded() - degraded,
            "fetch ms": used_s * 1000 / (rate * (seconds + WARM_UP_S)),
        }

    def _degraded(self) -> float:
        text = httpx.get(f"{self._place.url}/metrics", timeout=5, trust_env=False).text
        return sum(float(count) for count in _DEGRADED.findall(text))

    def _run(self, variables: Mapping[str, str], *command: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env={**self._place.environment, **variables},
            cwd=self._place.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise GraphFailed(f"python -m {' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
