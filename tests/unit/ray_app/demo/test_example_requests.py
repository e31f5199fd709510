"""The demo's requests: what a client of the shipped use case sends, and what their answers are to show."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.schema.use_case import load_use_case
from data.sources.synthetic.generators import GENERATORS
from data.sources.synthetic.plan import GenerationPlan, shards
from data.transform.encoding import Transform
from ray_app.demo.example_requests import ExampleRequest, examples
from ray_app.protocol.row_parser import RowParser
from tests.support.training.models import train_bundle

CARDS = load_use_case("card_fraud")


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Generated transactions."""
    plan = GenerationPlan(rows=6000, seed=1, entities=100, days=30, end_us=1_767_225_600_000_000)
    return pa.concat_tables([part for shard in shards(plan, 1) for part in GENERATORS["card_fraud"].tables(shard)])


@pytest.fixture(scope="module")
def sent(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> list[ExampleRequest]:
    """The requests that are made of them."""
    file: Path = tmp_path_factory.mktemp("demo") / "transactions.parquet"
    pq.write_table(table, file)
    return list(examples(CARDS, file))


def test_the_service_takes_each_of_them(table: pa.Table, sent: list[ExampleRequest]):
    """A model of the shipped use case takes every request, and records its row as an event."""
    manifest = train_bundle(table, CARDS, rounds=3).manifest
    parser = RowParser(manifest, Transform(manifest.schema_))
    for number, example in enumerate(sent):
        query = parser.parse(example.body, f"request {number}").query
        assert query is not None
        assert [own.record for own in query.own] == [True]


@pytest.mark.parametrize("name", [name for name in GENERATORS if name != CARDS.name])
def test_rows_of_every_kind_of_target_are_taken(name: str, tmp_path: Path):
    """Of every other generated table the demo asks about rows that a model takes: of each label, or of one list."""
    plan = GenerationPlan(rows=3000, seed=1, entities=60, days=30, end_us=1_767_225_600_000_000)
    rows, use_case = pa.concat_tables(GENERATORS[name].tables(shards(plan, 1)[0])), load_use_case(name)
    pq.write_table(rows, tmp_path / "table.parquet")
    manifest = train_bundle(rows, use_case, rounds=3).manifest
    parser = RowParser(manifest, Transform(manifest.schema_))
    asked = list(examples(use_case, tmp_path / "table.parquet"))
    bodies = [body for each in asked for body in (each.body if isinstance(each.body, list) else [each.body])]
    assert len(bodies) > 1
    for number, body in enumerate(bodies):
        parser.parse(body, f"request {number}")


def test_rows_are_as_of_their_time_and_the_new_card_of_now(table: pa.Table, sent: list[ExampleRequest]):
    """Two rows come with key and time, one of the card with the most frauds of late; two swipes of a card do not."""
    misused, other, first, second = (example.body for example in sent)
    rows = {row["transaction_id"]: row for row in table.to_pylist()}
    assert (rows[misused["transaction_id"]]["is_fraud"], rows[other["transaction_id"]]["is_fraud"]) == (1, 0)
    frauds = [row["user_id"] for row in rows.values() if row["is_fraud"]][-50:]
    assert frauds.count(misused["user_id"]) == max(map(frauds.count, frauds)) > 1
    assert first == second
    assert not {"transaction_id", "timestamp"} & first.keys()
    assert [example.windows for example in sent] == [False, False, True, True]
