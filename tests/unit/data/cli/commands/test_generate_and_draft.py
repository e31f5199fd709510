"""`generate` and `draft`: a table of each shipped use case, and a use case for it of the kind that is asked for."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from data.__main__ import LINE
from data.errors import DataError
from data.schema.task import Ranking
from data.schema.use_case import load_use_case
from data.sources.synthetic.generators import GENERATORS


def ran(*words):
    """The exit code of a command of the data line."""
    return LINE.main([str(word) for word in words])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("card_fraud", "2,000 transactions of 50 cards over 90 days, "),
        ("delivery_time", "2,000 deliveries of 50 kitchens over 90 days, "),
        ("product_ranking", "2,000 impressions of 50 users over 90 days, "),
        ("ticket_routing", "2,000 tickets of 444 customers over 90 days, accounts "),
    ],
)
def test_table_of_a_use_case_is_generated_and_clean(tmp_path, capsys, name, said):
    """The table is written with the columns of the use case, said in its words, and has no problem by it."""
    file = tmp_path / "t.parquet"
    assert ran("generate", file, "--use-case", name, "--rows", 2000) == 0
    assert said in capsys.readouterr().out
    assert pq.read_schema(file).names == GENERATORS[name].schema.names
    assert ran("validate", file, "--use-case", name) == 0


def test_folder_of_files_has_the_rows_of_the_one_file(tmp_path):
    """However many files are asked for, the rows are the same."""
    asked = ("--use-case", "ticket_routing", "--rows", 70_000)
    assert ran("generate", tmp_path / "one.parquet", *asked) == 0
    assert ran("generate", tmp_path / "two", "--files", 2, *asked) == 0
    assert pq.read_table(tmp_path / "two").equals(pq.read_table(tmp_path / "one.parquet"))


def test_kind_is_drafted_as_asked(tmp_path):
    """`--kind` overrules what the label shows."""
    file, out = tmp_path / "t.parquet", tmp_path / "case.toml"
    assert ran("generate", file, "--use-case", "delivery_time", "--rows", 2000) == 0
    asked = ("draft", file, "--label", "items", "--time", "ordered_at", "--out", out)
    assert ran(*asked) == 0
    assert load_use_case(out).task.kind == "regression"
    assert ran(*asked, "--kind", "multiclass") == 0
    assert load_use_case(out).task.kind == "multiclass"


def test_ranking_is_drafted_with_its_lists(tmp_path):
    """The draft names group and item, the group is no feature, and the table is clean by it."""
    file, out = tmp_path / "t.parquet", tmp_path / "case.toml"
    assert ran("generate", file, "--use-case", "product_ranking", "--rows", 2000) == 0
    asked = ("draft", file, "--label", "grade", "--time", "shown_at", "--out", out)
    assert ran(*asked, "--kind", "ranking", "--group", "session_id", "--item", "product_id") == 0
    task = load_use_case(out).task
    assert isinstance(task, Ranking)
    assert (task.group, task.item, task.at) == ("session_id", "product_id", 10)
    assert "session_id" not in load_use_case(out).features
    assert ran("validate", file, "--use-case", out) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--kind", "ranking"), "give --kind ranking and --group COLUMN"),
        (("--group", "session_id"), "give --kind ranking and --group COLUMN"),
        (("--kind", "ranking", "--item", "product_id"), "give --group COLUMN"),
        (("--kind", "ranking", "--group", "grade"), "named for two purposes"),
        (("--kind", "ranking", "--group", "nothing"), "nothing"),
    ],
)
def test_ranking_without_its_lists_is_refused(tmp_path, options, said):
    """A ranking needs a group that is there and is nothing else, and no other kind has one."""
    file = tmp_path / "t.parquet"
    assert ran("generate", file, "--use-case", "product_ranking", "--rows", 2000) == 0
    with pytest.raises(DataError, match=said):
        ran("draft", file, "--label", "grade", *options)
