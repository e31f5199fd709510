"""Common input of all compared servers: one bundle, one SQLite store, one list of request bodies."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers.scoring import Scorer
from data.online_store import StoredRow
from data.online_store.row_codec import RowCodec
from data.online_store.sqlite import SqliteStore
from data.schema.model_policy import Calibration
from ray_app.inference.models.onnx_model import OnnxModel
from tests.support.training.models import card_table, train_bundle
from tests.support.training.stored_cards import stored_cards
from tune.registry.bundle import Bundle

_DAY_US = 86_400_000_000
_BODIES = 5_000
_CHECKED = 100


@dataclass(frozen=True)
class Workload:
    """Files for servers and load generator; `expected` are the probabilities for the first request bodies."""

    folder: Path
    bundle: Path
    store: Path
    bodies: Path
    expected: list[float]

    @property
    def checked(self) -> list[dict[str, object]]:
        """The request bodies whose probabilities are in `expected`."""
        return json.loads(self.bodies.read_bytes())[: len(self.expected)]


def prepare(folder: Path, entities: int, rounds: int = 100) -> Workload:
    """Train `rounds` trees, store one row for each of `entities`, draw bodies that need the stored values."""
    # A peer scores by the booster, which knows no calibration.
    use_case = stored_cards().model_copy(update={"calibration": Calibration.NONE})
    bundle = train_bundle(card_table(20_000), use_case, rounds)
    table = card_table(max(entities, _BODIES), seed=11)
    users = [f"user_{i}" for i in range(table.num_rows)]
    store = SqliteStore(folder / "online.db", bundle.manifest.view, create=True)
    event_us = time.time_ns() // 1000 - np.random.default_rng(3).integers(0, _DAY_US, table.num_rows)
    payloads = RowCodec(bundle.manifest.schema_).pack_table(table, event_us).to_pylist()
    store.put_many([StoredRow(*row) for row in zip(users, event_us.tolist(), payloads, strict=True)][:entities])
    sent = [f.name for f in bundle.manifest.schema_.features if not f.online]
    rows = card_table(_BODIES, seed=12).select([*sent, "transaction_id"]).to_pylist()
    chosen = np.random.default_rng(4).integers(0, entities, _BODIES)
    bodies = [{"user_id": users[user], **row} for user, row in zip(chosen, rows, strict=True)]
    (folder / "bodies.json").write_text(json.dumps(bodies))
    store.close()
    scorer = Scorer(bundle.manifest, folder / "online.db", OnnxModel(bundle))
    expected = [scorer.answer(scorer.check(body))["probability"] for body in bodies[:_CHECKED]]
    scorer.close()
    return Workload(folder, _saved(bundle, folder), folder / "online.db", folder / "bodies.json", expected)


def _saved(bundle: Bundle, folder: Path) -> Path:
    return bundle.save(folder / "bundle")
