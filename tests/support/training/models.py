"""A small table and a bundle trained on it in a fraction of a second, for tests that need a real model."""

from __future__ import annotations

import functools
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.schema.features.feature import Feature
from data.schema.use_case import UseCase, parse_use_case
from data.sources.atomic_output import write_table
from data.transform.derived_time import with_derived
from tests.support.training.stored_cards import stored_cards
from tune.dataset.encoded_examples import prepare
from tune.dataset.table_in_time import table_in_time
from tune.dataset.training_table import NO_EVENTS, TrainingTable, fingerprint, read_labels
from tune.evaluation.holdout_evaluation import judge
from tune.pipeline.bundle_assembly import pack
from tune.promotion.holdout_overlap import last_learned_us
from tune.registry.bundle import Bundle
from tune.tasks.kinds import learning_task
from tune.training.boosting import base_params
from tune.training.final_fits import MemoryFits, run_here
from tune.training.final_model import complete

MERCHANTS = ("grocery", "electronics", "travel", "clothing", "food")


def card_table(rows: int = 3000, seed: int = 7, year: int = 2024) -> pa.Table:
    """Card transactions as `stored_cards` declares them, with fraud likelier abroad and at night."""
    rng = np.random.default_rng(seed)
    hour = rng.integers(0, 24, rows)
    foreign = (rng.random(rows) < 0.15).astype(np.int64)
    mismatch = (rng.random(rows) < 0.1).astype(np.int64)
    trust = rng.integers(0, 101, rows)
    velocity = rng.poisson(2.0, rows)
    merchant = rng.integers(0, len(MERCHANTS), rows)
    logit = -6 + 2.5 * foreign + 2 * mismatch + 2 * (hour < 5) + 2.5 * (trust < 30) + 0.5 * velocity + (merchant == 1)
    start = datetime(year, 1, 1, tzinfo=timezone.utc)
    return pa.table(
        {
            "transaction_id": np.arange(rows),
            "user_id": [f"u{user}" for user in rng.integers(0, max(rows // 20, 1), rows)],
            "amount": np.round(rng.lognormal(4, 1, rows), 2),
            "transaction_hour": hour,
            "merchant_category": [MERCHANTS[i] for i in merchant],
            "foreign_transaction": foreign,
            "location_mismatch": mismatch,
            "device_trust_score": trust,
            "velocity_last_24h": velocity,
            "cardholder_age": rng.integers(18, 90, rows),
            "is_fraud": (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64),
            "timestamp": pa.array([start + timedelta(minutes=i) for i in range(rows)], pa.timestamp("us", "UTC")),
        }
    )


def write_card_table(path: Path, rows: int = 3000, seed: int = 7) -> Path:
    """Write `card_table` as Parquet and return the path."""
    write_table(card_table(rows, seed), path)
    return path


def many_card_files(folder: Path, files: int, rows: int) -> Path:
    """Write a table of many files `f000.parquet` and so on, each of the same rows, and return the folder."""
    first = write_card_table(folder / "f000.parquet", rows)
    for i in range(1, files):
        os.link(first, first.with_name(f"f{i:03d}.parquet"))
    return folder


def train_bundle(
    table: pa.Table, use_case: UseCase, rounds: int = 20, holds_windows: bool = False, **params: object
) -> Bundle:
    """Train, export, check and pack without search, registry or Ray; the windows are the table's own or computed."""
    labels = read_labels(table, use_case, "table.parquet")
    raw, derived = table, with_derived(table, use_case.schema_.derived)
    table = table_in_time(derived, use_case, NO_EVENTS, holds_windows).table
    source = TrainingTable(table, labels, Path("table.parquet"), fingerprint(raw))
    prepared = prepare(source, use_case)
    base = {**base_params(learning_task(use_case), 1, 0), **params}
    model = complete(use_case, prepared, MemoryFits(prepared, base, rounds, run_here))
    figures = judge(use_case, source, prepared, model, [])
    told = figures.holdout.metrics, figures.differences, "# A card", source.fingerprint
    learned = last_learned_us(table, use_case)
    return pack(use_case, prepared.schema, model, *told, learned, table, prepared.profile)


@functools.cache
def card_bundle() -> Bundle:
    """The use case `stored_cards` trained on `card_table()`, made once a test run."""
    return train_bundle(card_table(), stored_cards())


def optional_merchants(**declared: object) -> UseCase:
    """The use case `stored_cards` with a merchant category that may be missing; `declared` changes it further."""
    use_case, name = stored_cards(), "merchant_category"
    category = {**use_case.features[name].model_dump(), "optional": True, **declared}
    return use_case.model_copy(update={"features": {**use_case.features, name: Feature.model_validate(category)}})


def blank_merchants_table(rows: int = 3000, seed: int = 7) -> pa.Table:
    """`card_table` with '' for the merchant of every fifth row, and of each fraud."""
    table, name = card_table(rows, seed), "merchant_category"
    words = np.array(table.column(name).to_pylist(), object)
    words[(np.arange(rows) % 5 == 0) | (table.column("is_fraud").to_numpy() == 1)] = ""
    return table.set_column(table.column_names.index(name), name, pa.array(words, pa.string()))


@functools.cache
def blank_merchants_bundle(empty: str) -> Bundle:
    """A model of `blank_merchants_table` to which '' is "missing" or a "value"."""
    return train_bundle(blank_merchants_table(), optional_merchants(empty=empty))


TIMES = """
name = "new_cards"
label = "is_fraud"
key = "transaction_id"
event_time = "timestamp"

[features]
amount = { type = "number" }
hour = { type = "integer", derive = "hour", column = "timestamp" }
opened_weekday = { type = "integer", derive = "weekday", column = "opened", optional = true }
opened_age = { type = "number", derive = "age_days", column = "opened", as_of = "timestamp", min = -1, optional = true }
"""
"""A use case that derives from two times, of which one may be missing."""


def times_use_case() -> UseCase:
    """The use case of `TIMES`."""
    return parse_use_case(TIMES, "times.toml")


def times_table(rows: int = 3000, seed: int = 7) -> pa.Table:
    """`card_table` with the time at which the account was opened, as text in two spellings; missing in every tenth."""
    table, rng = card_table(rows, seed), np.random.default_rng(seed)
    moments = [
        moment - timedelta(minutes=int(minutes))
        for moment, minutes in zip(table.column("timestamp").to_pylist(), rng.integers(0, 4_000_000, rows), strict=True)
    ]
    spelled = [f"{moment:%Y-%m-%d}" if at % 3 else moment.isoformat() for at, moment in enumerate(moments)]
    return table.append_column("opened", pa.array(["" if at % 10 == 9 else text for at, text in enumerate(spelled)]))


@functools.cache
def times_bundle() -> Bundle:
    """A model of `times_table`."""
    return train_bundle(times_table(), times_use_case())
