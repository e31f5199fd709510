"""Columns of a type that cannot hold their role: refused before a value is read, with advice that fits the column."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError
from data.schema.entity import Entity
from data.schema.use_case import UseCase
from data.sources.parquet import open_source
from data.sources.type_advice import label_remedy
from data.validation.column_types import check_learned, check_source

_ROWS = 4
_VALUES = {
    "integers": pa.array([1, 2, 3, 4]),
    "floats": pa.array([1.5, 2.5, 3.5, 4.5]),
    "decimals": pa.array([Decimal("1.5")] * _ROWS),
    "booleans": pa.array([True, False] * 2),
    "strings": pa.array(["a", "b"] * 2),
    "dictionary of strings": pa.array(["a", "b"] * 2).dictionary_encode(),
    "dates": pa.array([date(2024, 1, 1)] * _ROWS),
    "timestamps": pa.array([datetime(2024, 1, 1)] * _ROWS),
    "times": pa.array([time(12)] * _ROWS),
    "durations": pa.array([timedelta(1)] * _ROWS),
    "structs": pa.array([{"lat": 1.0, "lon": 2.0}] * _ROWS),
    "lists": pa.array([[1, 2]] * _ROWS),
    "fixed lists": pa.array([[1, 2]] * _ROWS, pa.list_(pa.int8(), 2)),
    "maps": pa.array([[("a", 1)]] * _ROWS, pa.map_(pa.string(), pa.int8())),
    "binary": pa.array([b"a"] * _ROWS),
    "fixed binary": pa.array([b"ab"] * _ROWS, pa.binary(2)),
    "nulls": pa.nulls(_ROWS),
}


def use_case(**changes) -> UseCase:
    """A use case with one feature and every role declared."""
    base = {"name": "t", "label": "y", "event_time": "at", "entity": {"column": "who"}, "key": "id"}
    return UseCase.model_validate({**base, "features": {"x": {"type": changes.get("type", "number")}}})


def refusal(folder, values, column="x", kind="number"):
    """What is said of a table with these values in one column; empty when it is accepted."""
    columns = {
        "x": [1, 2, 3, 4],
        "y": [0, 1, 0, 1],
        "at": [datetime(2024, 1, 1)] * 4,
        "who": ["a"] * 4,
        "id": [*"abcd"],
    }
    file = folder / "t.parquet"
    pq.write_table(pa.table({**columns, column: values}), file)
    try:
        check_source(open_source(file), use_case(type=kind))
    except DataError as exc:
        text = str(exc)
        assert text.startswith(f"{file}: column '{column}' holds ")
        assert "\n" not in text
        return text.partition("; ")[2]
    return ""


@pytest.mark.parametrize("values", list(_VALUES.values()), ids=list(_VALUES))
def test_advice_leads_in_no_circle(tmp_path, values):
    """Whatever a column holds: when another feature type is advised, a feature of that type is accepted."""
    said = {kind: refusal(tmp_path, values, kind=kind) for kind in ("number", "integer", "boolean", "category")}
    for text in filter(None, said.values()):
        assert "declare the feature as a category" not in text or not said["category"]
        assert "declare the feature as a number" not in text or not said["number"]


@pytest.mark.parametrize(
    ("held", "kind", "advice"),
    [
        (
            "dates",
            "number",
            'derive features of other names from it (derive = "weekday", "month" or "age_days"), or take',
        ),
        ("timestamps", "category", 'derive features of other names from it (derive = "hour"'),
        ("times", "number", "derive a number from it, such as the hour or the seconds since midnight"),
        ("durations", "integer", "write it as a number, such as seconds or days"),
        ("structs", "number", "write its fields (lat, lon) as columns of their own"),
        ("lists", "category", "derive numbers from it, such as its length"),
        ("maps", "number", "write the values of the keys that matter as columns"),
        ("binary", "category", "decode it to strings or numbers"),
        ("floats", "category", "declare the feature as a number, or, if its values are codes, write them as"),
        ("strings", "number", "convert the column to numbers, or declare the feature as a category"),
        ("strings", "boolean", "write true and false"),
        ("dictionary of strings", "number", "convert the column to numbers, or declare the feature as a category"),
        ("nulls", "number", "no row has a value: fill the column"),
    ],
)
def test_advice_for_a_feature_fits_its_column(tmp_path, held, kind, advice):
    """A date, a struct, a list, bytes: each is told what can be made of it."""
    assert refusal(tmp_path, _VALUES[held], kind=kind).startswith(advice)


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        (["no", "yes"] * 2, "write 1 for 'yes' and 0 for 'no'"),
        (["good", "bad"] * 2, "write 1 for 'bad' and 0 for 'good'"),
        (["red", "blue"] * 2, "write 1 for 'blue' and 0 for 'red', or the other way round"),
        (["a", "b", "c", None], "write 1 for what is to be predicted and 0 for the rest"),
        (pa.array(["N", "Y"] * 2).dictionary_encode(), "write 1 for 'Y' and 0 for 'N'"),
        (_VALUES["dates"], "write 1 where it tells what is to be predicted"),
        (_VALUES["lists"], "in a new column, or name another label"),
    ],
)
def test_label_is_told_how_to_be_recoded(tmp_path, values, advice):
    """A label of two words is told which becomes 1, as far as that can be known."""
    assert advice in refusal(tmp_path, values, column="y")


@pytest.mark.parametrize(
    ("column", "held", "advice"),
    [
        ("who", "floats", "write it as integers or strings, so that a key is spelled in one way only"),
        ("id", "structs", "write one of its fields (lat, lon) as a column of its own, or join them into one string"),
        ("id", "binary", "write it as a string, e.g. in hexadecimal"),
        ("who", "dates", "write it as a string, or name another column"),
        ("at", "floats", "write it as whole seconds or milliseconds since 1970"),
        ("at", "times", "a time of day has no date"),
        ("at", "durations", "a duration has no beginning"),
        ("at", "booleans", "name the column that holds the time"),
    ],
)
def test_advice_for_the_other_roles_fits_the_column(tmp_path, column, held, advice):
    """Entity, key and event time are told what would make them one."""
    assert refusal(tmp_path, _VALUES[held], column=column).startswith(advice)


_NUMBERS = 'task = { kind = "regression" }, or kind = "multiclass" with classes'


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        (
            [1.0, 2.0],
            "write 1 for 2 and 0 for 1, or the other way round; or declare task = { positive = 2, negative = 1 }",
        ),
        ([-1.0, 1.0], "write 1 for 1 and 0 for -1; or declare task = { positive = 1, negative = -1 }"),
        (
            [0.0, 1.0, 2.0],
            "remove the other rows, or write 1 for what is to be predicted and 0 for the rest, or name another label; "
            f"or declare {_NUMBERS}",
        ),
        (
            [0.1, 0.2, 0.3],
            f"write 1 for what is to be predicted and 0 for the rest, or name another label; or declare {_NUMBERS}",
        ),
        (
            ["a", "b", "c"],
            "write 1 for what is to be predicted and 0 for the rest, or name another label; or declare "
            'task = { kind = "multiclass", classes = ["a", "b", "c"] }',
        ),
    ],
)
def test_other_labels_are_told_how_to_be_recoded_or_declared(values, advice):
    """Two values are recoded, a third beside 0 and 1 is removed; or the use case declares the labels as they are."""
    assert label_remedy(values) == advice


def test_training_checks_only_what_it_reads(tmp_path):
    """An event time that is none is refused by the whole check, not by that of features, label and slices."""
    columns = {"x": [1, 2], "y": [0, 1], "at": [1.5, 2.5], "who": [1, 2], "id": [1, 2]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    check_learned(open_source(tmp_path / "t.parquet"), use_case())


@pytest.mark.parametrize(("key_type", "fits"), [("integer", True), ("string", False)])
def test_whole_floats_are_keys_of_an_integer_entity(tmp_path, key_type, fits):
    """What `materialize` takes as keys `validate` takes too: numbers of any type, if the keys are integers."""
    columns = {"x": [1.0] * 4, "y": [0, 1, 0, 1], "at": [datetime(2024, 1, 1)] * 4, "who": [17.0] * 4, "id": [*"abcd"]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    case = use_case().model_copy(update={"entity": Entity(column="who", type=key_type)})
    source = open_source(tmp_path / "t.parquet")
    if fits:
        check_source(source, case)
    else:
        with pytest.raises(DataError, match="column 'who' holds double, expected strings or integers"):
            check_source(source, case)
