"""Fixture of benchmarks: a trained model and a filled SQLite store, served by `serve run` as often as needed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.services.application import Workplace, serve_command
from tests.support.training.models import card_table, train_bundle
from tests.support.training.stored_cards import STORED_CARDS, stored_cards

_LINKS = re.compile(r'^rayscore_open_links\{deployment="(\w+)".*\} (\d+)', re.M)
_TRAIN_ROWS = 20_000
_TREES = 100
_BODIES = 5_000


class Bench:
    """A folder with a champion of 100 trees in its registry and a SQLite online store.

    Args:
        folder: an empty folder.
        rows: number of rows of the table that the store is filled from.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder = folder
        self._place = Workplace(folder, STORED_CARDS)
        bundle = train_bundle(card_table(_TRAIN_ROWS), stored_cards(), _TREES)
        self._place.publish_champion(bundle)
        self.bundle = folder / "bundle"
        self.bundle.write_bytes(bundle.to_bytes())
        self._place.run("data", "materialize", str(self._place.write_recent_table(rows=rows))).check_returncode()
        asked = [feature.name for feature in bundle.manifest.schema_.features if not feature.online]
        self._rows = card_table(rows).select(["user_id", *asked]).slice(0, _BODIES).to_pylist()

    @property
    def port(self) -> int:
        """Port of the service on the loopback address."""
        return self._place.port

    def bodies(self, rows: int = 1) -> list[bytes]:
        """JSON request bodies without the stored features: one row each, or arrays of `rows` rows."""
        if rows == 1:
            return [json.dumps(row).encode() for row in self._rows]
        cut = range(0, len(self._rows) - rows + 1, rows)
        return [json.dumps(self._rows[at : at + rows]).encode() for at in cut]

    @contextmanager
    def serving(self, **variables: str) -> Iterator[None]:
        """Run `serve run ray_app:graph` with these environment variables added until the block ends."""
        before = dict(self._place.environment)
        self._place.environment |= variables
        try:
            with self._place.running(*serve_command("graph")) as child:
                self._place.wait_ready(child)
                yield
        finally:
            self._place.environment = before

    def replicas(self, deployment: str) -> list[int]:
        """Process ids of a deployment's replicas, including those that are starting."""
        return self._place.processes(f"ServeReplica:default:{deployment}")

    def links(self) -> dict[str, int]:
        """Replicas by stage that the scraped gateway is connected to; its own series come first in a scrape."""
        text = httpx.get(f"{self._place.url}/metrics", timeout=5, trust_env=False).text
        return {name: int(count) for name, count in reversed(_LINKS.findall(text))}
