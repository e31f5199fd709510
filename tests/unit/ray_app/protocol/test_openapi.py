"""The OpenAPI document: the use case's own fields, and an example that works when sent."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator

from data.schema.features.feature import Feature, FeatureType, Source
from data.schema.features.feature_schema import FeatureSchema
from data.transform.encoding import FeatureEncoder
from ray_app.protocol.openapi import example, openapi
from tests.support.serving.predict_app import FULL, ROW, build_app, manifest, run
from tests.support.serving.window_app import EVENTS_TOKEN, report, swipe, swipes_app, swipes_bundle
from tests.support.training.models import card_bundle
from tune.registry.bundle import BundleManifest, Probe


def document(declared: BundleManifest | None = None) -> dict[str, Any]:
    """The document as a client reads it."""
    return json.loads(json.dumps(openapi(declared or manifest(), "3", 1000)))


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of the document with its components beside it; OpenAPI 3.0 is JSON Schema draft 4 but for nullable."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        if not isinstance(value, dict):
            return value
        out = {k: plain(v) for k, v in value.items() if k not in ("nullable", "example")}
        if value.get("nullable"):
            return {"anyOf": [out, {"type": "null"}]}
        return out

    return {**plain(schema), "components": plain(document["components"])}


def check(value: Any, name: str) -> None:
    """Assert that a value is what the document says of a component."""
    # In draft 4 whatever stands beside a $ref is ignored, so it needs a wrapper.
    schema = resolved(document(), {"allOf": [{"$ref": f"#/components/schemas/{name}"}]})
    Draft4Validator.check_schema(schema)
    Draft4Validator(schema).validate(value)


def body_schema() -> dict[str, Any]:
    """The schema of a request body."""
    read = document()
    return resolved(read, read["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"])


def test_documented_examples_are_answered():
    """Each example of the document is answered 200, and agrees with the document's own schema."""
    content = document()["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    for name in ("one", "several"):
        value = content["examples"][name]["value"]
        Draft4Validator(body_schema()).validate(value)
        assert run(build_app().post(value)).status_code == 200


def test_answers_agree_with_the_document():
    """A prediction, and a problem, are what the document says they are."""
    check(run(build_app().post(FULL, "/predict?detail=1")).json(), "Prediction")
    check(run(build_app().post(ROW)).json(), "Prediction")
    check(run(build_app().post({})).json(), "Problem")
    read = document()
    answers = read["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    many = run(build_app().post([FULL, {}])).json()
    Draft4Validator(resolved(read, answers)).validate(many)


def test_every_field_is_documented():
    """Entity, key and every feature that a client may send are in the document with type and range, and no others."""
    row = document()["components"]["schemas"]["Row"]
    sent = {f.name for f in manifest().schema_.features if f.source is not Source.ONLINE}
    assert set(row["properties"]) == sent | {"user_id", "transaction_id"}
    assert set(row["required"]) == set(ROW)
    assert row["properties"]["transaction_hour"]["type"] == "integer"
    assert row["properties"]["transaction_hour"]["minimum"] == 0
    assert row["properties"]["transaction_hour"]["maximum"] == 23
    assert "electronics" in row["properties"]["merchant_category"]["description"]
    assert "online store" in row["properties"]["cardholder_age"]["description"]


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        (Feature(name="shop", type=FeatureType.CATEGORY, vocabulary=("a", "")), "Known: a, ''. '' is a value."),
        (Feature(name="shop", type=FeatureType.CATEGORY, vocabulary=("a", "b")), "Known: a, b."),
    ],
)
def test_empty_text_that_is_a_value_is_documented(feature: Feature, said: str):
    """A category of which '' is a value says so, and shows it among its words."""
    schema = FeatureSchema(features=(feature,))
    declared = manifest().model_copy(update={"schema_": schema, "common_words": {"shop": 2}, "example": {}})
    row = openapi(declared, "1", 10)["components"]["schemas"]["Row"]
    assert row["properties"]["shop"]["description"] == said
    assert row["description"].startswith("null or '' is the same as leaving a field out")


def test_every_status_of_predict_is_documented():
    """The statuses that /predict answers with are all in the document."""
    responses = document()["paths"]["/predict"]["post"]["responses"]
    assert set(responses) >= {"200", "400", "408", "413", "415", "422", "503", "504"}


def test_every_page_is_documented():
    """Every path of the document answers."""
    served = build_app()

    async def statuses() -> dict[str, int]:
        async with served.client() as client:
            return {path: (await client.get(path)).status_code for path in document()["paths"]}

    assert run(statuses()) == {"/predict": 405, "/health": 200, "/ready": 200, "/model/info": 200, "/metrics": 200}


def test_online_only_feature_is_not_documented_as_a_field():
    """A feature that only the store supplies is no field of a request."""
    features = (
        Feature(name="amount", type=FeatureType.NUMBER),
        Feature(name="age", type=FeatureType.INTEGER, source=Source.ONLINE),
    )
    probe = Probe(rows=[[1.0, 3]], scores=[[0.5]])
    declared = manifest().model_copy(update={"schema_": FeatureSchema(features=features), "probe": probe})
    assert set(document(declared)["components"]["schemas"]["Row"]["properties"]) == {
        "user_id",
        "transaction_id",
        "amount",
    }
    assert example(declared) == {"user_id": "example", "amount": manifest().example["amount"]}


def test_example_is_made_up():
    """The example is of an entity that nobody is, with a typical value of each feature that a request must have."""
    shown = example(manifest())
    assert shown.pop("user_id") == "example"
    assert shown == {name: manifest().example[name] for name in ROW if name != "user_id"}


def test_example_of_an_older_bundle_comes_from_the_declaration():
    """A bundle whose probe rows are rows of the table shows none of their values, and its example is answered."""
    kept = manifest().model_dump(mode="json", exclude={"example", "common_words"})
    rows = [["ZZ-PRIVATE" if isinstance(value, str) else value for value in row] for row in kept["probe"]["rows"]]
    older = BundleManifest.model_validate({**kept, "probe": {**kept["probe"], "rows": rows}})
    read = json.dumps(openapi(older, "3", 1000))
    assert "ZZ-PRIVATE" not in read
    assert "electronics" not in read
    assert example(older)["merchant_category"] == "example"
    bundle = dataclasses.replace(card_bundle(), manifest=manifest().model_copy(update={"example": {}}))
    assert run(build_app(bundle=bundle).post(example(older))).status_code == 200


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (Feature(name="f", type=FeatureType.NUMBER), 0),
        (Feature(name="f", type=FeatureType.NUMBER, min=0.2, max=0.4), pytest.approx(0.3)),
        (Feature(name="f", type=FeatureType.INTEGER, min=18, max=90), 54),
        (Feature(name="f", type=FeatureType.INTEGER, max=-5), -5),
        (Feature(name="f", type=FeatureType.NUMBER, min=1000), 1000),
        (Feature(name="f", type=FeatureType.INTEGER, default=7), 7),
        (Feature(name="f", type=FeatureType.BOOLEAN), False),
        (Feature(name="f", type=FeatureType.CATEGORY, vocabulary=("a", "b")), "example"),
    ],
)
def test_example_of_a_feature_without_typical_value_is_acceptable(declared: Feature, value: object):
    """Without a typical value the example has the default, else something within the declared range."""
    older = manifest().model_copy(
        update={"schema_": FeatureSchema(features=(declared,)), "example": {}, "common_words": {}}
    )
    shown = example(older)["f"]
    assert shown == value
    FeatureEncoder(declared).accept(shown)


def test_a_model_with_windows_documents_what_they_need(tmp_path: Path):
    """Its example is answered, its answer and its events are as described, and what is computed is no field."""
    read = document(swipes_bundle().manifest)

    def holds(value: Any, schema: dict[str, Any]) -> None:
        Draft4Validator(resolved(read, {"allOf": [schema]})).validate(value)

    components, events = read["components"]["schemas"], read["paths"]["/events"]["post"]
    one = read["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]["one"]["value"]
    sent = {"source": "reports", "events": report(1, 0, True)}
    with swipes_app(tmp_path / "events.db", events_token=EVENTS_TOKEN) as served:
        for row in (one, swipe(1, 0)):
            answer = run(served.post(row, "/predict?detail=1"))
            assert answer.status_code == 200, answer.text
            holds(row, components["Row"])
            holds(answer.json(), components["Prediction"])
        taken = run(served.post(sent, "/events", authorization=f"Bearer {EVENTS_TOKEN}")).json()
    holds(sent, events["requestBody"]["content"]["application/json"]["schema"])
    holds(taken, events["responses"]["200"]["content"]["application/json"]["schema"])
    assert not {"card_count_1d", "amount_ratio", "fraud"} & components["Row"]["properties"].keys()
    assert components["Row"]["required"] == ["amount", "card_id", "terminal_id"]
