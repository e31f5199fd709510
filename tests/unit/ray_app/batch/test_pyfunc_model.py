"""The model as MLflow loads it: a pandas table of raw columns gets what HTTP answers, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from data.errors import ConfigError, DataError, StoreUnavailable
from data.feature_views.point_in_time import with_windows
from data.sources.atomic_output import write_table
from tests.support.serving.predict_app import build_app, local_store, run, write_store
from tests.support.serving.window_app import EVENTS_TOKEN, report, swipe, swipes_app, swipes_bundle
from tests.support.training.models import card_bundle, card_table, times_bundle, times_table, train_bundle
from tests.support.training.swipes import swipes_table, swipes_use_case
from tune.registry.bundle import Bundle
from tune.registry.pyfunc_flavor import save_flavor

ONLINE = ("device_trust_score", "velocity_last_24h", "cardholder_age")


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory):
    """The card model, saved and loaded by MLflow."""
    return saved(card_bundle(), tmp_path_factory.mktemp("cards"))


@pytest.fixture(scope="module")
def swipes(tmp_path_factory: pytest.TempPathFactory):
    """A model with windows, saved and loaded by MLflow, and its use case."""
    use_case = swipes_use_case()
    return saved(train_bundle(swipes_table(), use_case), tmp_path_factory.mktemp("swipes")), use_case


def saved(bundle: Bundle, folder: Path) -> mlflow.pyfunc.PyFuncModel:
    """A bundle written in MLflow's flavour and loaded by MLflow."""
    save_flavor(bundle, folder / "model")
    return mlflow.pyfunc.load_model(str(folder / "model"))


def answers(table: pa.Table, bundle: Bundle, stage: Any = None) -> list[dict[str, Any]]:
    """What HTTP answers for the rows of a table, null fields left out."""
    sent = [
        name
        for name in (*bundle.manifest.entity_columns, *bundle.manifest.schema_.columns)
        if name in table.column_names
    ]
    rows = [{k: v for k, v in row.items() if v is not None} for row in table.select(sent).to_pylist()]
    return run(build_app(stage, bundle=bundle).post(rows)).json()


def test_raw_table_gets_the_answers_of_http(cards: mlflow.pyfunc.PyFuncModel):
    """A frame with label, key and time beside the features scores the bits and labels of HTTP, under its own index."""
    table = card_table(300)
    frame = table.to_pandas().set_index("transaction_id")
    found = cards.predict(frame)
    asked = answers(table, card_bundle())
    assert list(found.columns) == ["probability", "label"]
    assert found["probability"].tolist() == [answer["probability"] for answer in asked]
    assert found["label"].tolist() == [answer["label"] for answer in asked]
    assert found.index.equals(frame.index)


def test_pandas_types_of_the_same_values_score_alike(cards: mlflow.pyfunc.PyFuncModel):
    """Words as a pandas category, integers as floats or nullable integers, whole amounts as int64: all the same."""
    frame = card_table(50).to_pandas().assign(amount=lambda rows: rows["amount"].round())
    other = frame.assign(
        merchant_category=frame["merchant_category"].astype("category"),
        transaction_hour=frame["transaction_hour"].astype(float),
        foreign_transaction=frame["foreign_transaction"].astype("Int64"),
        amount=frame["amount"].astype("int64"),
    )
    pd.testing.assert_frame_equal(cards.predict(other), cards.predict(frame))


def test_missing_values_of_online_features_are_those_of_the_store(
    cards: mlflow.pyfunc.PyFuncModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """NaN in one online feature and another one's absent column are read from the store, as HTTP does."""
    table = card_table(60)
    users = sorted(set(table.column("user_id").to_pylist()))
    file = write_store(tmp_path / "online.db", {user: dict.fromkeys(ONLINE, 7) for user in users})
    monkeypatch.setenv("RAYSCORE_SQLITE_FILE", str(file))
    frame = table.to_pandas().drop(columns="cardholder_age")
    frame["velocity_last_24h"] = frame["velocity_last_24h"].astype(float).where(np.arange(60) % 2 == 0)
    stage = local_store(file)
    asked = answers(pa.Table.from_pandas(frame, preserve_index=False), card_bundle(), stage)
    stage.close()
    assert cards.predict(frame)["probability"].tolist() == [answer["probability"] for answer in asked]


def test_store_that_is_not_there_is_told_with_the_columns(
    cards: mlflow.pyfunc.PyFuncModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without a store, rows that need it are an error that says which columns to give."""
    monkeypatch.setenv("RAYSCORE_SQLITE_FILE", str(tmp_path / "none.db"))
    with pytest.raises(StoreUnavailable, match="give the frame a value in every row of device_trust_score"):
        cards.predict(card_table(5).to_pandas().drop(columns="device_trust_score"))


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("amount", -3.0, "row 7: amount: below the smallest accepted value 0"),
        ("transaction_hour", 2.5, "row 7: transaction_hour: not a whole number"),
        ("merchant_category", None, "row 7: merchant_category: missing"),
        ("amount", "much", "row 7: amount: expected a number, got a string"),
    ],
)
def test_bad_value_is_told_with_row_and_column(cards: mlflow.pyfunc.PyFuncModel, column: str, value: Any, told: str):
    """A row that HTTP would answer with 422 is an error that names row, column and reason."""
    frame = card_table(20).to_pandas()
    frame[column] = frame[column].astype(object)
    frame.loc[7, column] = value
    with pytest.raises(DataError, match=told):
        cards.predict(frame)


def test_frame_without_columns_to_score_by_is_told(cards: mlflow.pyfunc.PyFuncModel):
    """Without a value and without the entity to look it up by, the error names both."""
    with pytest.raises(DataError, match="lacks cardholder_age; give these columns, or 'user_id'"):
        cards.predict(card_table(5).to_pandas().drop(columns=["user_id", "cardholder_age"]))


def test_derived_times_score_as_http_does(tmp_path: Path):
    """Features derived from times are those of HTTP, which gets the times as text."""
    table = times_table(40)
    asked = answers(
        table.set_column(table.column_names.index("timestamp"), "timestamp", as_text(table)), times_bundle()
    )
    found = saved(times_bundle(), tmp_path).predict(table.to_pandas())
    assert found["probability"].tolist() == [answer["probability"] for answer in asked]


def as_text(table: pa.Table) -> pa.Array:
    """The table's times as a request has them."""
    return pa.array([moment.isoformat() for moment in table.column("timestamp").to_pylist()])


def test_windows_are_computed_of_frame_and_history(swipes: Any, tmp_path: Path):
    """A raw frame of today scores as a table that holds its windows, with yesterday's rows as history."""
    model, use_case = swipes
    table = swipes_table(300)
    write_table(table.slice(0, 200), tmp_path / "history.parquet")
    whole = with_windows(table, use_case).table.slice(200)
    held = model.predict(whole.to_pandas())
    computed = model.predict(table.slice(200).to_pandas(), params={"history": str(tmp_path / "history.parquet")})
    alone = model.predict(table.slice(200).to_pandas())
    pd.testing.assert_frame_equal(computed, held)
    assert (alone["probability"] != held["probability"]).any()


def test_windows_that_cannot_be_had_are_told(swipes: Any, tmp_path: Path):
    """What is missing of events, or of the windows themselves, is named with what to give."""
    model, use_case = swipes
    frame = swipes_table(20).to_pandas()
    with pytest.raises(DataError, match=r"lacks card, of which the windows are computed; .*: card_count_1d"):
        model.predict(frame.drop(columns="card"))
    with pytest.raises(DataError, match="some windows and lacks card_mean_3d, pair_count_3d, terminal_risk_2d"):
        model.predict(frame.assign(card_count_1d=1))
    held = with_windows(swipes_table(20), use_case).table.to_pandas()
    with pytest.raises(ConfigError, match="holds its windows already"):
        model.predict(held, params={"history": str(tmp_path / "history.parquet")})


def test_windows_over_a_stream_score_as_http_does(tmp_path: Path):
    """Rows that HTTP answers one after the other, each then an event, score alike as one frame with the reports."""
    rows = [swipe(at, at * 50, f"c{at % 3}", f"t{at % 2}", amount=5.25 + at) for at in range(40)]
    reports = [report(at, at * 50, at % 4 == 0, f"t{at % 2}") for at in range(20)]
    with swipes_app(tmp_path / "events.db", events_token=EVENTS_TOKEN) as served:
        bearer = {"authorization": f"Bearer {EVENTS_TOKEN}"}
        assert run(served.post({"source": "reports", "events": reports}, "/events", **bearer)).status_code == 200
        asked = [run(served.post(row)).json() for row in rows]
    write_table(pa.Table.from_pylist(reports), tmp_path / "reports.parquet")
    model, frame = saved(swipes_bundle(), tmp_path), pd.DataFrame(rows)
    found = model.predict(frame, params={"events": [f"reports={tmp_path / 'reports.parquet'}"]})
    assert found["probability"].tolist() == [answer["probability"] for answer in asked]
    assert len(set(found["probability"])) > 2
    with pytest.raises(DataError, match=r"the events of reports are not given, .*\['reports=PATH'\]"):
        model.predict(frame)


def test_logged_model_says_what_it_takes(tmp_path: Path):
    """Signature, example and pinned requirements are logged; the example itself can be scored."""
    model = saved(swipes_bundle(), tmp_path)
    windows = [feature.name for feature in swipes_bundle().manifest.schema_.windows]
    schema = model.metadata.get_input_schema()
    assert schema.required_input_names() == ["amount"]
    assert {"card_id", "terminal_id", "swipe_id", "swiped_at", *windows} < set(schema.optional_input_names())
    assert model.metadata.get_output_schema().input_names() == ["probability", "label"]
    assert len(model.predict(model.input_example)) == 1
    pinned = (tmp_path / "model" / "requirements.txt").read_text("utf-8").split()
    assert {line.partition("==")[0] for line in pinned} == {"mlflow", "numpy", "onnxruntime", "pandas", "pyarrow"}
    assert all("==" in line for line in pinned)
