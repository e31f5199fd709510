"""The use-case file: the shipped one loads, and every mistake is refused with file, key, line and expectation."""

import re

import pytest

from data.errors import ConfigError
from data.schema.features.feature import FeatureType, Source
from data.schema.use_case import SHIPPED, find_use_case, load_use_case, parse_use_case

_TEXT = """name = "loans"
label = "repaid"
event_time = "asked_at"
materialized = { every = "1d", takes = "2h" }
[entity]
column = "customer"
ttl = "12h"

[features]
income = { type = "number", source = "either", min = 0 }
job = { type = "category" }

[search]
metric = "auc"

[search.space]
max_depth = { low = 3, high = 9, integer = true }
"""


def test_shipped_use_cases_load():
    """The shipped use cases are valid: one has windows and online features, of the others the caller sends all."""
    cards, sent, minutes, moods, order, teams = (load_use_case(name) for name in SHIPPED)
    others = (sent, minutes, moods, order, teams)
    assert cards.label == sent.label == "is_fraud"
    assert "cardholder_age" in [feature.name for feature in cards.schema_.online]
    assert cards.view.startswith("card_fraud@")
    assert {window.by for window in cards.windows} == {"user_id", "terminal_id"}
    assert {feature.source for each in others for feature in each.features.values()} == {Source.REQUEST}
    kinds = ["binary", "binary", "regression", "multiclass", "ranking", "multiclass"]
    assert [each.task.kind for each in (cards, *others)] == kinds
    assert moods.texts == ("text",)


def test_file_is_read_with_its_defaults(tmp_path):
    """A file is read by path; what it leaves out has the documented default."""
    path = tmp_path / "loans.toml"
    path.write_text(_TEXT)
    use_case = load_use_case(path)
    assert use_case.entity is not None
    assert use_case.entity.ttl_seconds == 12 * 3600
    assert use_case.strategy == "time"
    assert use_case.categories() == ["job"]
    assert use_case.columns == ["income", "job", "repaid", "asked_at", "customer"]
    assert use_case.features["job"].type is FeatureType.CATEGORY


def test_slice_may_be_a_name_and_columns_for_reports_are_read():
    """A slice is a column's name or a table; slice and known-at columns are read though they are no features."""
    extra = 'slices = ["region", { column = "income", edges = [10, 20] }]\nknown_at = { income = "paid_at" }\n[entity]'
    use_case = parse_use_case(_TEXT.replace("[entity]", extra, 1), "loans.toml")
    assert [(each.column, each.edges) for each in use_case.slices] == [("region", None), ("income", (10, 20))]
    assert use_case.columns == ["income", "job", "repaid", "asked_at", "customer", "region", "paid_at"]


def test_times_are_read_in_place_of_what_is_derived_from_them():
    """The columns of a derived feature are read, once, also where a slice goes by the feature."""
    features = """[features]
hour = { type = "integer", derive = "hour", column = "asked_at" }
age = { type = "number", derive = "age_days", column = "born", as_of = "asked_at" }
"""
    text = _TEXT.replace("[features]\n", features, 1).replace("[entity]", 'slices = ["hour"]\n[entity]', 1)
    assert parse_use_case(text, "loans.toml").columns == ["asked_at", "born", "income", "job", "repaid", "customer"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('label = "repaid"', "", "label: is required"),
        (
            "[search]\n",
            '[explanation.texts]\nincom = "The income"\n[search]\n',
            "explanation.texts.incom: no such feature; did you mean 'income'?",
        ),
        (
            "[search]\n",
            "[explanation]\ntops = 2\n[search]\n",
            "explanation.tops (line 14): unknown key; did you mean 'top'?",
        ),
        ("[search]\n", "[explanation]\ntop = 0\n[search]\n", "explanation.top (line 14): Input should be greater than"),
        ('label = "repaid"', 'labl = "repaid"', "labl (line 2): unknown key; did you mean 'label'?"),
        (
            'metric = "auc"',
            'metric = "recall"',
            "search.metric (line 14): Input should be 'auc', 'pr_auc', 'f1', 'neg_log_loss'",
        ),
        ('"number"', '"float"', "features.income.type (line 10): Input should be 'number'"),
        ("min = 0", "mim = 0", "features.income.mim (line 10): unknown key; did you mean 'min'?"),
        ('ttl = "12h"', 'ttl = "12 hours"', "entity (line 5): ttl '12 hours' is not a duration such as '30d'"),
        ('ttl = "12h"', 'ttl = "1m1.5s"', "entity (line 5): ttl '1m1.5s' is not whole seconds"),
        ("low = 3", "low = 30", "search.space.max_depth (line 17): low 30 is above high 9"),
        ("high = 9", "high = inf", "search.space.max_depth.high (line 17): Input should be a finite number"),
        ("low = 3", "low = nan", "search.space.max_depth.low (line 17): Input should be a finite number"),
        ('event_time = "asked_at"', "", "features.income.source: an online feature needs event_time"),
        (
            'materialized = { every = "1d", takes = "2h" }',
            "",
            "features.income: the store holds the value of an earlier row, and nothing says of which; declare at the "
            'top when rows are stored, e.g. materialized = { every = "1d", takes = "2h" }; or source = "request" if '
            "the caller knows the value with the row; or a window over events",
        ),
        ("income =", "repaid =", "features.repaid: the column is already the label"),
        ("income =", "customer =", "features.customer: the column is already the entity"),
        ('name = "loans"', 'name = "My Loans"', "name (line 1): String should match pattern"),
        ("[search]\n", "[split]\nholdout = 0.9\n[search]\n", "split.holdout (line 14): Input should be less than 0.5"),
        (
            "[entity]",
            'calibration = "gamma"\n[entity]',
            "calibration (line 5): Input should be 'none', 'isotonic', 'platt', 'beta', 'temperature' or 'auto'",
        ),
        (
            "[search]\n",
            "[decision]\ncots = 1\n[search]\n",
            "decision.cots (line 14): unknown key; did you mean 'cost'?",
        ),
        (
            "[search]\n",
            "[decision]\ncost = { false_positive = 1 }\n[search]\n",
            "decision.cost.false_negative (line 14): is required",
        ),
        ("[entity]", 'slices = ["job", "job"]\n[entity]', "slices.job: the column is named twice"),
        ("[entity]", 'slices = ["repaid"]\n[entity]', "slices.repaid: the column is the label"),
        (
            "[entity]",
            'slices = [{ column = "income", edges = [2, 1] }]\n[entity]',
            "slices.0 (line 5): edges [2.0, 1.0] are not ascending",
        ),
        (
            "[features]\n",
            '[features]\nday = { type = "integer", derive = "day", column = "repaid" }\n',
            "features.day: 'repaid' is no time but the label",
        ),
        (
            "[features]\n",
            '[features]\nday = { type = "integer", derive = "day", column = "income" }\n',
            "features.day: 'income' is no time but the feature of that name",
        ),
        ("[entity]", 'known_at = { wage = "at" }\n[entity]', "known_at.wage: no such feature"),
    ],
)
def test_mistake_is_refused_with_its_place(old, new, words):
    """A wrong, missing or misspelt key is refused with the file, the key, its line and what was expected."""
    assert old in _TEXT
    with pytest.raises(ConfigError, match=re.escape(f"loans.toml: {words}")):
        parse_use_case(_TEXT.replace(old, new, 1), "loans.toml")


def test_text_that_is_not_toml_names_the_line():
    """A file that is not TOML is refused with the line of the parser."""
    with pytest.raises(ConfigError, match=r"loans\.toml: not valid TOML: .*line 2"):
        parse_use_case('name = "loans"\nlabel = repaid\n', "loans.toml")


def test_unknown_name_lists_those_shipped():
    """A use case that is neither shipped nor a file says which are."""
    with pytest.raises(ConfigError, match="no use case 'card_frauds': not a file, and not one of: card_fraud"):
        find_use_case("card_frauds")
