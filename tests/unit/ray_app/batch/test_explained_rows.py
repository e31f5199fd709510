"""Explained batch scoring: what HTTP answers for the same rows, in one column beside the scores."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.distributed.pieces import each_block_here, parquet_pieces
from data.errors import ConfigError
from data.schema.features.feature import Feature, FeatureType
from data.schema.reason_codes import ReasonCodes
from data.settings import Settings
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source
from ray_app.__main__ import main
from ray_app.batch import explained_rows
from ray_app.batch.explained_rows import value_text
from ray_app.batch.scoring import ScoringJob, part_name, plan, score_rows
from tests.support.serving.explanations import CODES
from tests.support.serving.predict_app import build_app, local_store, manifest, run, write_store
from tests.support.training.models import card_bundle, card_table
from tests.support.training.scored_tables import scored_here
from tests.support.training.stored_cards import STORED_CARDS

ONLINE = ("device_trust_score", "velocity_last_24h", "cardholder_age")


def planned(table: pa.Table, folder: Path, carry: str = "keys", reasons: ReasonCodes | None = CODES) -> ScoringJob:
    """The job that scores and explains a table."""
    folder.mkdir(exist_ok=True)
    write_table(table, folder / "in.parquet")
    source = open_source(folder / "in.parquet")
    (folder / "out").mkdir(exist_ok=True)
    settings = Settings(sqlite_file=folder / "online.db")
    return plan(settings, card_bundle(), "7", scored_here(source, folder), folder / "out", carry, reasons)


def score(table: pa.Table, folder: Path, carry: str = "keys") -> pa.Table:
    """Score and explain a table as the command does, without Ray."""
    job = planned(table, folder, carry)
    source = open_source(folder / "in.parquet")
    done = dict(each_block_here(parquet_pieces(source, job.columns), partial(score_rows, job=job)))
    return pa.concat_tables([pq.read_table(folder / "out" / part_name(first)) for first in sorted(done)])


def test_rows_are_explained_as_http_explains_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers bit for bit and the same reasons, stored values included, also across blocks; values as text."""
    monkeypatch.setattr(explained_rows, "_BLOCK_ROWS", 30)
    table = card_table(100).drop_columns(ONLINE)
    users = {user: {"device_trust_score": 5, "velocity_last_24h": 9} for user in set(table["user_id"].to_pylist())}
    features = local_store(write_store(tmp_path / "online.db", users))
    scored = score(table, tmp_path)
    names = ["user_id", *(name for name in manifest().schema_.names if name in table.column_names)]
    served = build_app(features, reasons=CODES)
    answers = run(served.post(table.select(names).to_pylist(), "/predict?explain=1")).json()
    features.close()

    assert scored.column_names[-2:] == ["model_version", "explanation"]
    explanations = scored.column("explanation").to_pylist()
    for found, answer in zip(explanations, answers, strict=True):
        expected = answer["explanation"]
        assert {name: found[name] for name in found if name != "reasons"} == {
            name: expected[name] for name in expected if name != "reasons"
        }
        assert [{**each, "value": None} for each in found["reasons"]] == [
            {**each, "value": None} for each in expected["reasons"]
        ]
        for ours, theirs in zip(found["reasons"], expected["reasons"], strict=True):
            value = theirs["value"]
            assert ours["value"] == (value if isinstance(value, str | None) else pytest.approx(value, rel=1e-6)) or (
                np.float32(ours["value"]) == np.float32(value)
            )


def test_explained_rows_add_up_over_a_table(tmp_path: Path) -> None:
    """Of 3,000 rows, base value and contributions sum to the margin within 1e-6."""
    scored = score(card_table(3_000, seed=5), tmp_path).column("explanation").combine_chunks()
    parts = [scored.field("contributions").field(name).to_numpy() for name in manifest().schema_.names]
    sums = scored.field("base_value").to_numpy() + np.sum(parts, axis=0)
    assert np.abs(sums - scored.field("margin").to_numpy()).max() < 1e-6


def test_refused_rows_are_not_explained(tmp_path: Path) -> None:
    """A block with refused rows, and one of nothing else, explain those that were scored."""
    table = card_table(10)
    amounts = [-1.0 if i < 4 else 10.0 + i for i in range(10)]
    at = table.column_names.index("amount")
    scored = score(table.set_column(at, "amount", pa.array(amounts)), tmp_path)
    assert (scored.num_rows, scored.column("explanation").null_count) == (6, 0)
    none = score(table.set_column(at, "amount", pa.array([-1.0] * 10)), tmp_path / "none")
    assert none.num_rows == 0
    assert none.schema.field("explanation").type == scored.schema.field("explanation").type


def test_the_column_gives_way_to_a_carried_one(tmp_path: Path) -> None:
    """Where a carried column has the name, all of the output's own have the prefix."""
    table = card_table(5).append_column("explanation", pa.array(["mine"] * 5))
    scored = score(table, tmp_path, carry="explanation")
    assert scored.column("explanation").to_pylist() == ["mine"] * 5
    assert "predicted_explanation" in scored.column_names
    assert "predicted_probability" in scored.column_names


def test_parts_of_other_reasons_are_not_reused(tmp_path: Path) -> None:
    """The job's fingerprint tells explained from not, and other texts; without reasons it is what it was."""
    table = card_table(5)
    changed = CODES.model_copy(update={"texts": {"amount": "Something else"}})
    found = {planned(table, tmp_path, reasons=reasons).fingerprint for reasons in (None, CODES, changed)}
    assert len(found) == 3


@pytest.mark.parametrize(
    ("feature", "encoded", "text"),
    [
        ({"type": FeatureType.NUMBER}, 120.55, "120.55"),
        ({"type": FeatureType.NUMBER}, 1e-3, "0.001"),
        ({"type": FeatureType.INTEGER}, 41, "41"),
        ({"type": FeatureType.BOOLEAN}, 1, "true"),
        ({"type": FeatureType.CATEGORY, "vocabulary": ("food", "travel")}, 1, "travel"),
        ({"type": FeatureType.CATEGORY, "vocabulary": ("food", "travel")}, float("nan"), None),
    ],
)
def test_values_are_written_as_text(feature: dict[str, Any], encoded: float, text: str | None) -> None:
    """A number as float32 has it, a category's word, and null for what was missing."""
    assert value_text(Feature(name="x", **feature), np.float32(encoded)) == text


def test_a_use_case_without_reason_codes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--explain` without [explanation], or with the reason codes of another use case, ends with what to do."""
    write_table(card_table(5), tmp_path / "in.parquet")
    folder = card_bundle().save(tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    command = ["score", "--explain", "--bundle", str(folder), "--use-case"]
    paths = [str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet")]
    with pytest.raises(ConfigError, match=r"declares no reason codes; add \[explanation\] to its file"):
        main([*command, str(STORED_CARDS), *paths])
    with pytest.raises(ConfigError, match="would be those of 'credit_card_fraud_10k'; name the file with --use-case"):
        main([*command, "credit_card_fraud_10k", *paths])
    assert not (tmp_path / "out.parquet").exists()
