"""What is answered for every kind of target, and that the documents of a model say so."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft4Validator

from ray_app.inference.models.model_scoring import ModelServer, RemoteModel
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.protocol.openapi import openapi
from ray_app.protocol.pages import build_pages
from tests.support.serving.made_models import OUTPUTS, ROWS, made_bundle
from tests.support.serving.predict_app import build_app, run

EVERY_KIND = pytest.mark.parametrize("kind", OUTPUTS)
MATRIX = np.array([[row["amount"], row["age"]] for row in ROWS], np.float32)


def answers(kind: str) -> list[dict[str, Any]]:
    """What HTTP answers for `ROWS`."""
    return run(build_app(bundle=made_bundle(kind)).post(ROWS)).json()


def model_info(kind: str) -> dict[str, Any]:
    """The description of a model."""
    return json.loads(build_pages(made_bundle(kind).manifest, "1", 10, None)["/model/info"].body)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("digits", [{"label": 0}, {"label": 0}, {"label": 1}, {"label": 1}]),
        ("words", [{"label": "no"}, {"label": "yes"}, {"label": "yes"}, {"label": "yes"}]),
        ("classes", [{"label": "low"}, {"label": "low"}, {"label": "high"}, {"label": "high"}]),
        ("grades", [{"label": 3}, {"label": 3}, {"label": 2}, {"label": 2}]),
        (
            "amount",
            [{"interval": [0.0, 0.0]}, {"interval": [0.0, 2.6]}, {"interval": [0.0, 3.3]}, {"interval": [0.5, 5.5]}],
        ),
        ("order", [{"rank": 4}, {"rank": 3}, {"rank": 2}, {"rank": 1}]),
    ],
)
def test_an_answer_has_the_fields_of_its_kind(kind: str, told: list[dict[str, Any]]):
    """Labels come as they were declared, by threshold or likeliest class; a number comes with its interval."""
    output = OUTPUTS[kind]
    scores = OnnxModel(made_bundle(kind)).score(MATRIX).tolist()
    for answer, row, said in zip(answers(kind), scores, told, strict=True):
        assert {name: answer[name] for name in output.field_schemas()} == output.fields(row)
        for name, value in said.items():
            assert answer[name] == (pytest.approx(value) if name == "interval" else value)
        assert answer["model"] == {"name": "made", "version": "3", "epoch": 1}
        assert ("probability" in answer) == (output.labels is not None)


def test_the_probabilities_of_classes_are_named_and_add_up():
    """Of several classes each has its probability, that of the label is the largest, and together they are 1."""
    for answer in answers("classes"):
        assert answer["probabilities"].keys() == {"low", "mid", "high"}
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert (
            answer["probability"] == answer["probabilities"][answer["label"]] == max(answer["probabilities"].values())
        )


def test_items_are_ranked_among_those_that_were_answered():
    """The largest score has rank 1, of equal ones the first in the request is better; refused items have none."""
    app = build_app(bundle=made_bundle("order"))
    items = [ROWS[1], {**ROWS[0], "age": "nonsense"}, ROWS[3], ROWS[1], ROWS[2]]
    found = run(app.post(items)).json()
    assert [item.get("rank") for item in found] == [3, None, 1, 4, 2]
    assert "error" in found[1]
    scores = [item["score"] for item in found if "score" in item]
    assert sorted(scores, reverse=True) == [item["score"] for item in sorted(found[:1] + found[2:], key=_rank)]


def _rank(item: dict[str, Any]) -> int:
    return item["rank"]


def test_single_item_is_the_first():
    """A row that is sent alone has rank 1, whatever its score."""
    answer = run(build_app(bundle=made_bundle("order")).post(ROWS[0])).json()
    assert (answer["score"], answer["rank"]) == (-3.0, 1)


@pytest.mark.parametrize("kind", sorted(OUTPUTS.keys() - {"order"}))
def test_answers_of_other_kinds_have_no_rank(kind: str):
    """Where every row stands alone, an array says nothing more than its rows do."""
    assert all("rank" not in answer for answer in answers(kind))


@EVERY_KIND
def test_answers_are_as_the_document_says(kind: str):
    """Each answer is valid by the OpenAPI document of its model, which requires every field of the kind."""
    document = openapi(made_bundle(kind).manifest, "3", 10)
    described = document["components"]["schemas"]["Prediction"]
    own = OUTPUTS[kind].field_schemas().keys() | OUTPUTS[kind].ranked_schemas().keys()
    assert own <= set(described["required"])
    plain = json.loads(json.dumps(described).replace('"nullable": true', '"x": 0'))
    for name in ("entity_found", "online_age_s"):
        plain["properties"][name] = {}
    Draft4Validator.check_schema(plain)
    for answer in answers(kind):
        Draft4Validator(plain).validate(answer)
    wrong = dict.fromkeys(OUTPUTS[kind].field_schemas(), "nonsense")
    assert not Draft4Validator(plain).is_valid({**answers(kind)[0], **wrong})


@EVERY_KIND
def test_the_pages_say_what_is_answered(kind: str):
    """The front page says in words how an answer is meant, and so does the description, with what was fitted."""
    output = OUTPUTS[kind]
    page = build_pages(made_bundle(kind).manifest, "1", 10, None)["/"].body.decode()
    assert output.words in page
    assert ("from a probability of" in page) == ("threshold" in output.fitted)
    assert model_info(kind).items() >= {"answers": output.words, **output.fitted}.items()


def test_a_threshold_is_told_where_there_is_one():
    """The description of a model has a threshold where one decides, labels where there are some, else the interval."""
    told = {kind: model_info(kind).keys() & {"threshold", "labels", "interval_coverage"} for kind in OUTPUTS}
    assert told["digits"] == told["words"] == {"threshold", "labels"}
    assert told["classes"] == told["grades"] == {"labels"}
    assert told["amount"] == {"interval_coverage"}
    assert told["order"] == set()
    assert model_info("grades")["labels"] == [3, 1, 2]


@EVERY_KIND
def test_scores_of_any_width_cross_a_transport(kind: str):
    """Rows scored in another replica have the shape and the bits of those scored in this process."""
    bundle = made_bundle(kind)
    model = OnnxModel(bundle)
    server = ModelServer(lambda digest: model)

    async def transport(request: bytes, timeout_s: float) -> bytes:
        return server.call(request)

    far = run(RemoteModel(transport, bundle.digest, bundle.manifest.output.width, 5).score(MATRIX))
    assert far.shape == (4, bundle.manifest.output.width)
    assert far.tobytes() == model.score(MATRIX).tobytes()
