"""A text from a table to an answer: trained in seconds, and the same bits in training, batch scoring and HTTP."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from data.errors import BundleError
from data.schema.features.feature import MAX_TEXT
from data.transform.encoding import Transform
from data.validation.row_checks import value_checks
from ray_app.batch.refused_rows import refusals
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.protocol.openapi import openapi
from ray_app.protocol.row_parser import RefusedItem, RowParser
from tests.support.training.posts import posts_bundle, posts_table, posts_use_case
from tune.registry.bundle import TEXTS, Bundle
from tune.registry.raw_columns import raw_columns
from tune.skew.replay_requests import ReplayRequests

SENT = ("text", "channel", "picture", "replies_1h", "days_owned")
POST = {"text": "not bad at all", "channel": "app", "picture": False, "replies_1h": 0}


def parser() -> RowParser:
    """The parser of the model's requests."""
    manifest = posts_bundle().manifest
    return RowParser(manifest, Transform(manifest.schema_))


def test_posts_are_told_apart():
    """Trained in seconds, a model tells the sentiment of later posts, and by pairs of words the opposite of a word."""
    bundle = posts_bundle()
    assert bundle.manifest.metrics["macro_f1"] > 0.8
    texts = ("the kettle is not bad at all", "the kettle is bad, a waste of money")
    rows = [parser().parse({**POST, "text": text}) for text in texts]
    good, bad = OnnxModel(bundle).score(np.array([row.encoded for row in rows], np.float32))
    output = bundle.manifest.output
    assert output.fields(good.tolist())["label"] == "positive"
    assert output.fields(bad.tolist())["label"] == "negative"


def test_requests_are_encoded_as_the_table_is():
    """The vector of a request has the bits of its row in the table, with a text and without one."""
    table = posts_table().slice(0, 500)
    matrix = Transform(posts_bundle().manifest.schema_).matrix(table)
    requests = [{name: row[name] for name in SENT if row[name] is not None} for row in table.to_pylist()]
    encoded = [parser().parse(request).encoded for request in requests]
    assert any("text" not in request for request in requests)
    assert np.array(encoded, np.float32).tobytes() == matrix.tobytes()


def test_proof_sends_the_texts():
    """The requests that a skew proof makes of a table carry its texts."""
    encoded, sent = ReplayRequests(posts_table().slice(0, 50), posts_bundle().manifest).slice(0, 50)
    for row, request in zip(encoded, sent, strict=True):
        assert np.array(parser().parse(request.body).encoded, np.float32).tobytes() == row.tobytes()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (5, "text: expected a string, got the number 5"),
        (["good"], "text: expected a string, got an array"),
        (True, "text: expected a string, got true"),
        ("x" * (MAX_TEXT + 1), "text: is longer than 100,000 characters"),
    ],
)
def test_wrong_text_is_refused(text, reason):
    """A text that is no string, or too long, is an error of its field."""
    with pytest.raises(RefusedItem) as refused:
        parser().parse({**POST, "text": text})
    assert str(refused.value) == reason


def test_every_other_text_is_answered():
    """An empty text is missing like none; another script, symbols and the longest text have finite scores."""
    names = posts_bundle().manifest.schema_.names
    at = [names.index(name) for name in names if name.startswith("text[")]
    for text in ("", None):
        assert [parser().parse({**POST, "text": text}).encoded[i] for i in at] == [None] * len(at)
    for text in (
        "\U0001f44d",
        "очень хороший",
        "とても良い",
        "!!!",
        "\ud800",
        "x" * MAX_TEXT,
        "a b " * (MAX_TEXT // 4),
    ):
        scores = [parser().parse({**POST, "text": text}).encoded[i] for i in at]
        assert np.isfinite(np.array(scores, np.float64)).all()


def test_scores_are_not_sent():
    """A request that sends a score is told to send the text."""
    with pytest.raises(RefusedItem, match="is derived by the service; send 'text' instead"):
        parser().parse({**POST, "text[positive]": 1.0})


def test_bundle_carries_the_text_model(tmp_path):
    """A bundle that is saved or sent has its text model, by whose digest a damaged one is refused."""
    bundle = posts_bundle()
    folder = bundle.save(tmp_path / "bundle")
    again = Bundle.load(folder)
    assert again.manifest.schema_ == bundle.manifest.schema_
    assert again.digest == bundle.digest == Bundle.from_bytes(bundle.to_bytes()).digest
    assert Transform(again.manifest.schema_).matrix(posts_table().slice(0, 9)).shape == (9, 11)
    (folder / TEXTS).write_bytes(bundle.texts[:-1] + b"x")
    with pytest.raises(BundleError, match=r"texts\.npz is not the file"):
        Bundle.load(folder)
    (folder / TEXTS).unlink()
    with pytest.raises(BundleError, match=r"texts\.npz"):
        Bundle.load(folder)


def test_document_describes_the_text():
    """The API's document has the text as a string of limited length, which a request may leave out, with an example."""
    manifest = posts_bundle().manifest
    row = openapi(manifest, "1", 100)["components"]["schemas"]["Row"]
    assert row["properties"]["text"]["type"] == "string"
    assert row["properties"]["text"]["maxLength"] == MAX_TEXT
    assert "text" not in row["required"]
    assert not any("[" in name for name in row["properties"])
    assert parser().parse(row["example"]).encoded
    assert ("text", "text", False) in raw_columns(manifest)


def test_long_and_missing_texts_of_a_table_are_found():
    """Batch scoring and validation refuse the row that HTTP refuses: of a text that is too long."""
    table = posts_table().slice(0, 3).set_column(4, "text", pa.array(["fine", "x" * (MAX_TEXT + 1), None]))
    manifest = posts_bundle().manifest
    assert refusals(table, manifest, Transform(manifest.schema_)).refused.tolist() == [False, True, False]
    checks = value_checks(table, list(posts_use_case().features.values()))
    assert {check.reason: check.mask.tolist() for check in checks if check.column == "text"} == {
        "longer than 100,000 characters": [False, True, False]
    }
