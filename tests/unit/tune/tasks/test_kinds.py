"""Every kind of target from a table to a bundle: labels, output, figures, and the exported graph."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa
import pytest

from data.errors import DataError
from data.schema.model_policy import Calibration
from data.schema.use_case import UseCase, parse_use_case
from data.sources.atomic_output import write_table
from data.transform.encoding import Transform
from tests.support.training.models import train_bundle
from tune.dataset.training_table import load_training_table, read_labels
from tune.promotion.gates import check_gates
from tune.registry.bundle import Bundle
from tune.tasks.kinds import learning_task
from tune.training.onnx_export import OnnxScorer

ROWS = 3000
FEATURES = '\n[features]\nx = { type = "number" }\nz = { type = "number" }\nw = { type = "category" }\n'
TASKS = {
    "yes or no": ("answer", '{ positive = "yes", negative = "no" }'),
    "1 or 2": ("code", "{ positive = 2, negative = 1 }"),
    "classes": ("size", '{ kind = "multiclass", classes = ["small", "middle", "large"] }'),
    "squared": ("amount", '{ kind = "regression" }'),
    "absolute": ("amount", '{ kind = "regression", objective = "absolute" }'),
    "quantile": ("amount", '{ kind = "regression", objective = "quantile", quantile = 0.8 }'),
    "poisson": ("count", '{ kind = "regression", objective = "poisson" }'),
    "tweedie": ("claim", '{ kind = "regression", objective = "tweedie" }'),
}


@functools.cache
def table(seed: int = 0) -> pa.Table:
    """Labels of every kind that follow from x and w, and z that only spreads them."""
    rng = np.random.default_rng(seed)
    x, z, w = rng.normal(size=ROWS), rng.normal(size=ROWS), rng.choice(["a", "b", "c"], ROWS)
    level = x + (w == "a")
    count = rng.poisson(np.exp(0.6 * level))
    return pa.table(
        {
            "x": x,
            "z": z,
            "w": w,
            "answer": np.where(level + rng.normal(size=ROWS) > 1, "yes", "no"),
            "code": np.where(level + rng.normal(size=ROWS) > 1, 2, 1),
            "size": np.array(["small", "middle", "large"])[np.digitize(level + 0.7 * rng.normal(size=ROWS), [-0.3, 1])],
            "amount": 3 * level + rng.normal(size=ROWS) * (0.5 + np.abs(z)),
            "count": count,
            "claim": count * rng.gamma(2, 1, ROWS),
        }
    )


def declared(name: str, extra: str = "") -> UseCase:
    """The use case of one of `TASKS`."""
    label, task = TASKS[name]
    return parse_use_case(f'name = "t"\nlabel = "{label}"\ntask = {task}\n{extra}{FEATURES}', "t.toml")


@functools.cache
def bundle(name: str) -> Bundle:
    """A model of it."""
    return train_bundle(table(), declared(name), rounds=60, max_depth=3, learning_rate=0.1)


@pytest.mark.parametrize("name", TASKS)
def test_every_kind_is_learned_and_beats_the_constant(name):
    """The model's metric on the holdout is better than that of the constant answer, and is a figure of the manifest."""
    use_case, manifest = declared(name), bundle(name).manifest
    difference = manifest.baselines[learning_task(use_case).constant]
    assert difference.low > 0
    assert use_case.metric.value in manifest.metrics
    assert set(learning_task(use_case).headline) <= set(manifest.metrics)


@pytest.mark.parametrize("name", TASKS)
def test_row_has_the_same_bits_alone_and_among_others(name):
    """What a row is answered does not depend on the rows beside it."""
    scorer = OnnxScorer(bundle(name).onnx)
    matrix = Transform(bundle(name).manifest.schema_).matrix(table().slice(0, 300))
    alone = np.concatenate([scorer.scores(matrix[at : at + 1]) for at in range(300)])
    for size in (7, 32, 300):
        batches = [scorer.scores(matrix[at : at + size]) for at in range(0, 300, size)]
        assert np.concatenate(batches).tobytes() == alone.tobytes()


@pytest.mark.parametrize("name", TASKS)
def test_answer_of_one_row_is_that_of_its_column(name):
    """The fields of a response and the columns of batch scoring hold the same values, and can be read back."""
    output = bundle(name).manifest.output
    scores = OnnxScorer(bundle(name).onnx).scores(Transform(bundle(name).manifest.schema_).matrix(table().slice(0, 50)))
    columns = output.columns(scores)
    for at, row in enumerate(scores.tolist()):
        fields = output.fields(row)
        assert output.read(fields) == row
        for field, value in fields.items():
            if field in columns:
                assert columns[field][at] == value
        assert set(fields) == set(output.field_schemas())


@pytest.mark.parametrize("name", ["yes or no", "1 or 2", "classes"])
def test_labels_are_answered_as_the_table_writes_them(name):
    """Every answer is one of the declared labels, and most are right."""
    manifest = bundle(name).manifest
    scores = OnnxScorer(bundle(name).onnx).scores(Transform(manifest.schema_).matrix(table()))
    answered, true = manifest.output.columns(scores)["label"], table().column(manifest.label).to_numpy()
    assert set(answered) <= set(true)
    assert (answered == true).mean() > 0.6


@pytest.mark.parametrize("name", ["squared", "absolute", "quantile", "poisson", "tweedie"])
def test_interval_holds_the_declared_share_of_the_holdout(name):
    """Between 85 and 95 % of 600 rows that no fit has seen, where 90 % are declared."""
    assert 0.85 < bundle(name).manifest.metrics["coverage"] < 0.95


def test_temperature_is_in_the_graph():
    """Declared, the temperature is what the model answers by, and log loss is no worse for it."""
    warm = train_bundle(table(), declared("classes", 'calibration = "temperature"\n'), rounds=120, learning_rate=0.5)
    cold = train_bundle(table(), declared("classes", 'calibration = "none"\n'), rounds=120, learning_rate=0.5)
    assert [each.manifest.calibration for each in (warm, cold)] == [Calibration.TEMPERATURE, Calibration.NONE]
    assert warm.manifest.metrics["log_loss"] < cold.manifest.metrics["log_loss"]
    assert warm.manifest.metrics["accuracy"] == cold.manifest.metrics["accuracy"]


@pytest.mark.parametrize("name", ["classes", "squared", "poisson"])
@pytest.mark.parametrize("seed", range(5))
def test_model_of_shuffled_labels_is_refused(name, seed):
    """A model that learned labels in another order is not above chance, whatever the kind."""

    def shuffled(rows: pa.Table) -> pa.Table:
        order, place = np.random.default_rng(seed).permutation(ROWS), rows.column_names.index(TASKS[name][0])
        return rows.set_column(place, TASKS[name][0], rows.column(place).take(pa.array(order)))

    fool = train_bundle(shuffled(table()), declared(name), rounds=10)
    for model, rows, verdict in ((fool, shuffled(table(1)), "REFUSED"), (bundle(name), table(1), "passed")):
        gates = {gate.name: gate for gate in check_gates(declared(name), rows, model, None)}
        assert gates["above chance"].verdict == verdict


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("yes or no", ["yes", "no", "maybe"], "'maybe'"),
        ("1 or 2", [1, 2, 3], "3"),
        ("classes", ["small", "huge", "large"], "'huge'"),
        ("squared", [1.0, float("inf"), 2.0], "inf"),
        ("squared", ["1", "2", "x"], "'x'"),
        ("poisson", [1, -1, 2], "-1"),
        ("classes", ["small", None, "large"], "missing in 1 rows"),
    ],
)
def test_label_that_is_not_declared_is_refused(name, values, said):
    """The error names the column and the value, and says what is expected."""
    use_case = declared(name)
    with pytest.raises(DataError, match=said) as caught:
        read_labels(pa.table({use_case.label: values}), use_case, "t.parquet")
    assert use_case.label in str(caught.value)


def test_class_that_a_part_would_lack_is_refused():
    """A class of two rows cannot be in three parts; the error names it."""
    rows = table().filter(pa.array(table().column("size").to_numpy() != "large"))
    few = pa.concat_tables([rows, table().filter(pa.array(table().column("size").to_numpy() == "large")).slice(0, 2)])
    with pytest.raises(DataError, match="2 rows with size = 'large'"):
        train_bundle(few, declared("classes"))


@pytest.mark.parametrize(("name", "value"), [("squared", 3.5), ("classes", "small"), ("yes or no", "no")])
def test_constant_target_is_refused(tmp_path, name, value):
    """Labels that are all the same teach nothing; the error shows which one it is."""
    place, label = table().column_names.index(TASKS[name][0]), TASKS[name][0]
    write_table(table().set_column(place, label, pa.array([value] * ROWS)), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=f"every row has {label} = '?{value}"):
        load_training_table(tmp_path / "t.parquet", declared(name))
