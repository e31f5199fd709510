"""Texts end to end: HTTP, batch scoring, MLflow's model and the skew proofs compute the same bits."""

from __future__ import annotations

import functools
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.distributed.pieces import each_block_here, parquet_pieces
from data.schema.reason_codes import ReasonCodes
from data.schema.use_case import parse_use_case
from data.settings import Settings
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source
from ray_app.batch.pyfunc_model import PyfuncModel
from ray_app.batch.scoring import part_name, plan, refused_name, score_rows
from ray_app.loadtest.request_bodies import bodies
from ray_app.prediction_log.log import LogOptions, PredictionLog, Sampling
from ray_app.protocol.openapi import openapi
from tests.support.serving.predict_app import VERSION, build_app, run
from tests.support.training.models import train_bundle
from tests.support.training.posts import posts_bundle, posts_table
from tests.support.training.scored_tables import scored_here
from tests.support.training.skew import listening
from tune.registry.bundle import Bundle
from tune.skew.http_replay import ReplayPace, prove
from tune.skew.log_replay import prove_log
from tune.skew.replay_requests import ReplayRequests
from tune.skew.service_client import ServiceClient

ROWS = 200
BODY: dict[str, Any] = {"text": "never let me down", "channel": "app", "picture": False, "replies_1h": 0}


def rows() -> pa.Table:
    """Some posts, one of them in another script and one without text."""
    table = posts_table(ROWS, 5)
    texts: list[str | None] = table["text"].to_pylist()
    texts[0], texts[1] = None, "очень хороший чайник \U0001f44d"
    return table.set_column(table.column_names.index("text"), "text", pa.array(texts))


def requests() -> list[dict[str, Any]]:
    """What a client sends of them."""
    _, sent = ReplayRequests(rows(), posts_bundle().manifest).slice(0, ROWS)
    return [each.body or {} for each in sent]


def ask(*bodies_: dict[str, Any], path: str = "/predict") -> Any:
    """What the service answers."""
    return run(build_app(bundle=posts_bundle()).post(list(bodies_), path)).json()


def test_http_batch_scoring_and_mlflow_give_the_same_bits(tmp_path: Path) -> None:
    """Each row of a table is scored alike by a request, by a job of `score` and by MLflow's model."""
    online = [each["probabilities"] for each in ask(*requests())]
    write_table(rows(), tmp_path / "in.parquet")
    source = open_source(tmp_path / "in.parquet")
    (tmp_path / "out").mkdir()
    job = plan(Settings(), posts_bundle(), VERSION, scored_here(source, tmp_path), tmp_path / "out")
    done = dict(each_block_here(parquet_pieces(source, job.columns), partial(score_rows, job=job)))
    scored = pa.concat_tables([pq.read_table(tmp_path / "out" / part_name(first)) for first in sorted(done)])
    frame = PyfuncModel(posts_bundle()).predict(rows().to_pandas())
    for name in ("negative", "neutral", "positive"):
        expected = [each[name] for each in online]
        assert scored.column(f"probability_{name}").to_pylist() == expected
        assert frame[f"probability_{name}"].tolist() == expected


def test_too_long_text_is_written_out_by_batch_scoring(tmp_path: Path) -> None:
    """The row that HTTP refuses is refused by a job, with the reason."""
    table = rows().slice(0, 2).set_column(4, "text", pa.array(["good", "x" * 100_001]))
    write_table(table, tmp_path / "in.parquet")
    source = open_source(tmp_path / "in.parquet")
    (tmp_path / "out").mkdir()
    job = plan(Settings(), posts_bundle(), VERSION, scored_here(source, tmp_path), tmp_path / "out")
    dict(each_block_here(parquet_pieces(source, job.columns), partial(score_rows, job=job)))
    refused = pq.read_table(tmp_path / "out" / refused_name(0))
    assert refused.column("reasons").to_pylist() == ["text: longer than 100,000 characters"]
    answer = run(build_app(bundle=posts_bundle()).post({**BODY, "text": "x" * 100_001}))
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": "text", "reason": "is longer than 100,000 characters"}]


def test_detail_shows_the_scores() -> None:
    """With detail an answer has the scores that the trees saw, and of a post without text none."""
    full, without = ask(BODY, {**BODY, "text": ""}, path="/predict?detail=1")
    assert full["features"]["text[positive]"]["value"] > 0.5
    assert full["features"]["text[words]"] == {"value": 4.0, "source": "request"}
    assert without["features"]["text[positive]"] == {"value": None, "source": "default"}


def test_both_proofs_pass(tmp_path: Path) -> None:
    """A replay over HTTP and a replay of the log find the vectors of a sound service those of training."""
    bundle = posts_bundle()
    log = PredictionLog("gateway-1", bundle.manifest, LogOptions(tmp_path / "log", Sampling(1.0, 0.0)))
    with listening(build_app(bundle=bundle, observers=[log]).app) as url:
        service = ServiceClient(url, VERSION)
        by_http = prove(bundle, rows(), service, ReplayPace(ROWS, 1e6))
        service.close()
    log.close()
    by_log = prove_log(bundle, VERSION, tmp_path / "log", ROWS)
    assert (by_http.compared, by_http.differing) == (ROWS, 0)
    assert (by_log.compared, by_log.differing) == (ROWS, 0)


def test_load_test_sends_texts(tmp_path: Path) -> None:
    """The load test makes bodies of a table with texts that the service accepts."""
    write_table(rows(), tmp_path / "mix.parquet")
    document = openapi(posts_bundle().manifest, VERSION, 100)
    made = bodies(document, tmp_path / "mix.parquet")
    assert len(made) == ROWS
    assert run(build_app(bundle=posts_bundle()).send(made[1])).status_code == 200


@functools.cache
def pleased_bundle() -> Bundle:
    """A model of two labels with a text."""
    label = pa.array([int(mood == "positive") for mood in posts_table()["sentiment"].to_pylist()])
    table = posts_table().drop_columns(["sentiment"]).append_column("pleased", label)
    declared = 'name = "pleased"\nlabel = "pleased"\n[features]\ntext = { type = "text", optional = true }\n'
    return train_bundle(table, parse_use_case(declared + "replies_1h = { type = 'integer' }", "pleased.toml"))


@pytest.mark.parametrize("text", ["worth every cent", None])
def test_explanation_names_the_scores(text: str | None) -> None:
    """The contributions of an explanation are of the scores, and their reason has the text declared of the text."""
    reasons = ReasonCodes(top=2, texts={"text": "what you wrote"})
    served = build_app(bundle=pleased_bundle(), reasons=reasons)
    sent = {"text": text, "replies_1h": 0}
    (answer,) = run(served.post([sent], "/predict?explain=1")).json()
    explained = answer["explanation"]
    assert set(explained["contributions"]) == {"text[score]", "text[for score]", "text[words]", "replies_1h"}
    assert explained["base_value"] + sum(explained["contributions"].values()) == pytest.approx(explained["margin"])
    if text is not None:
        assert explained["reasons"][0]["text"] == "what you wrote"
