"""A ranking from a table to a bundle: whole lists, figures by list, gates, and faults of a declaration."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xgboost

from data.errors import ConfigError, DataError
from data.schema.outputs.ranking_output import RankingOutput
from data.schema.use_case import UseCase, parse_use_case
from data.settings import Settings
from data.sources.atomic_output import write_table
from data.transform.encoding import Transform
from data.transform.list_codes import list_codes
from ray_app.inference.explanation.tree_shap import TreeShap
from tests.support.training.models import train_bundle
from tests.support.training.training_reports import finish_in_process
from tune.dataset.encoded_examples import EncodedExamples, prepare
from tune.dataset.loading import prepared_table
from tune.dataset.training_table import TrainingTable, read_labels
from tune.evaluation.model_card import TrainingOutcome, write_card
from tune.evaluation.model_plots import importance, write_plots
from tune.metrics.cluster_bootstrap import entity_codes
from tune.promotion.gates import check_gates
from tune.registry.bundle import Bundle
from tune.tasks.kinds import learning_task
from tune.tasks.ranking import POPULARITY
from tune.training.boosting import base_params, fit
from tune.training.fold_matrices import fold_matrices
from tune.training.listed_rows import listed, lists_of
from tune.training.onnx_export import OnnxScorer

LISTS = 300
FEATURES = '[features]\nx = { type = "number" }\nz = { type = "number" }\nw = { type = "category" }\n'


@functools.cache
def table(seed: int = 0) -> pa.Table:
    """Sessions of 2 to 12 items in no order, whose grades follow from x and w."""
    rng = np.random.default_rng(seed)
    session = np.repeat(np.arange(LISTS), rng.integers(2, 13, LISTS))
    rows = len(session)
    x, w = rng.normal(size=rows), rng.choice(["a", "b", "c"], rows)
    liked = x + (w == "a") + 0.6 * rng.normal(size=rows)
    columns = {
        "session": [f"s{each}" for each in session],
        "user": [f"u{each % 60}" for each in session],
        "at": pa.array(session * 3_600_000_000 + rng.integers(0, 7_200_000_000, rows), pa.timestamp("us")),
        "x": x,
        "z": rng.normal(size=rows),
        "w": w,
        "grade": (liked > 1).astype(np.int64) + (liked > 2),
    }
    return pa.table(columns).take(pa.array(rng.permutation(rows)))


def declared(extra: str = "", task: str = ', item = "w"', features: str = FEATURES) -> UseCase:
    """The use case of `table`; `extra` stands at the top, or begins tables."""
    text = f'name = "t"\nlabel = "grade"\ntask = {{ kind = "ranking", group = "session", at = 5{task} }}\n'
    return parse_use_case(f"{text}{extra}\n{features}", "t.toml")


@functools.cache
def bundle() -> Bundle:
    """A model of it."""
    return train_bundle(table(), declared(), rounds=60, max_depth=3, learning_rate=0.1)


def source(use_case: UseCase, rows: pa.Table) -> TrainingTable:
    """Rows as training has them."""
    return TrainingTable(rows, read_labels(rows, use_case, "t.parquet"), Path("t.parquet"), "0" * 16)


def test_model_beats_popularity_and_a_random_order():
    """NDCG, MAP and MRR are figures of the manifest, and NDCG is better than by popularity or chance."""
    manifest = bundle().manifest
    assert manifest.metrics.keys() == {"ndcg", "map", "mrr"}
    assert manifest.baselines[POPULARITY].low > 0
    assert manifest.baselines["random order"].low > 0
    assert isinstance(manifest.output, RankingOutput)
    assert manifest.output.at == 5


def test_without_an_item_there_is_no_popularity():
    """The baseline needs to know what is popular."""
    use_case = declared(task="")
    found = learning_task(use_case).looked_up(table(), np.arange(5), np.ones(5, np.float32), np.arange(5))
    assert found == {}


def test_popularity_is_the_mean_grade_of_the_item():
    """Each item counts once more at the mean of all rows, and an unknown one is scored by that mean."""
    rows = pa.table({"w": ["a", "a", "b", "new"]})
    found = learning_task(declared()).looked_up(rows, np.arange(3), np.array([1, 2, 0], np.float32), np.arange(4))
    assert found[POPULARITY].scores[:, 0] == pytest.approx([4 / 3, 4 / 3, 0.5, 1.0])


@pytest.mark.parametrize(
    "extra",
    [
        "",
        'event_time = "at"',
        '[entity]\ncolumn = "user"\n[split]\nstrategy = "entity"',
        "[split]\nfolds = 1",
    ],
)
def test_lists_are_never_divided(extra: str):
    """By every strategy the rows of one list are in one part, and among development rows in one fold."""
    prepared = prepare(source(use_case := declared(extra), table()), use_case)
    lists = list_codes(table(), use_case)
    assert lists is not None
    parts = [set(lists[rows]) for rows in prepared.parts]
    assert sum(map(len, parts)) == LISTS
    assert min(map(len, parts)) > 20
    development = lists[prepared.parts.development]
    for number in np.unique(development):
        assert len(set(prepared.folds.of[development == number])) == 1


def test_list_of_several_entities_is_named():
    """A split by entity would divide such a list; the error says which one it is, and what to do."""
    users = table().column("user").to_pylist()
    users[7] = "somebody else"
    rows = table().set_column(1, "user", pa.array(users))
    use_case = declared('[entity]\ncolumn = "user"\n[split]\nstrategy = "entity"')
    with pytest.raises(DataError, match=table().column("session")[7].as_py()):
        prepare(source(use_case, rows), use_case)


def test_row_without_a_list_is_refused():
    """The error names the column and how many rows it is."""
    rows = table().set_column(0, "session", pa.array([None, "", *table().column("session").to_pylist()[2:]]))
    with pytest.raises(DataError, match=r"'session' \(the group\) is missing in 2 rows"):
        prepare(source(declared(), rows), declared())


def test_lists_reach_xgboost_as_they_are():
    """The matrix has the rows of each list side by side, and gives back which they are."""
    examples = EncodedExamples(np.arange(6, dtype=np.float32)[:, None], np.zeros(6), np.array([7, 3, 7, 5, 3, 7]))
    given = listed(examples)
    assert given["data"][:, 0].tolist() == [1, 4, 3, 0, 2, 5]
    found = lists_of(xgboost.DMatrix(**given), declared().task)
    assert found is not None
    assert found.tolist() == [0, 0, 1, 2, 2, 2]


def test_rows_of_other_kinds_reach_xgboost_unmoved():
    """Without lists the arrays are passed on as they are."""
    examples = EncodedExamples(np.zeros((3, 1), np.float32), np.zeros(3))
    given = listed(examples)
    assert given.keys() == {"data", "label"}
    assert given["data"] is examples.x
    assert given["label"] is examples.y


@pytest.mark.parametrize("metric", ["ndcg", "map"])
def test_fit_stops_where_the_metric_is_best(metric: str):
    """A search's history is the metric of the judged lists, which rises, and the round with the highest is taken."""
    use_case = declared(f'[search]\nmetric = "{metric}"')
    prepared, learning = prepare(source(use_case, table()), use_case), learning_task(use_case)
    folds = fold_matrices(prepared.development, prepared.folds, prepared.feature_types, 1)
    found = fit({**base_params(learning, 1, 0), "learning_rate": 0.3}, learning, folds, 60, 10)
    assert found.score == max(found.history) > found.history[0]
    assert found.rounds < len(found.history) <= found.rounds + 10
    assert found.losses == pytest.approx([1 - value for value in found.history])


def test_resamples_are_of_lists_or_of_entities_that_hold_them_whole():
    """Intervals resample lists; with an entity of several lists entities, unless a list has more than one."""
    lists = list_codes(table(), declared())
    assert lists is not None
    own = entity_codes(table(), declared())
    assert own is not None
    assert own.tolist() == lists.tolist()
    users = entity_codes(table(), declared('[entity]\ncolumn = "user"'))
    assert users is not None
    assert len(np.unique(users)) == 60
    items = entity_codes(table(), declared('[entity]\ncolumn = "w"', features='[features]\nx = { type = "number" }'))
    assert items is not None
    assert items.tolist() == lists.tolist()


def test_row_has_the_same_bits_alone_and_among_others():
    """What a row is scored does not depend on the rows beside it."""
    scorer = OnnxScorer(bundle().onnx)
    matrix = Transform(bundle().manifest.schema_).matrix(table().slice(0, 100))
    alone = np.concatenate([scorer.scores(matrix[at : at + 1]) for at in range(100)])
    assert scorer.scores(matrix).tobytes() == alone.tobytes()


@pytest.mark.parametrize("seed", range(5))
def test_model_of_shuffled_grades_is_refused(seed: int):
    """A model that learned grades in another order is not above chance, and a good one is."""

    def shuffled(rows: pa.Table) -> pa.Table:
        order, place = np.random.default_rng(seed).permutation(rows.num_rows), rows.column_names.index("grade")
        return rows.set_column(place, "grade", rows.column(place).take(pa.array(order)))

    fool = train_bundle(shuffled(table()), declared(), rounds=10)
    for model, rows, verdict in ((fool, shuffled(table(1)), "REFUSED"), (bundle(), table(1), "passed")):
        gates = {gate.name: gate for gate in check_gates(declared(), rows, model, None)}
        assert gates["above chance"].verdict == verdict


def test_champion_is_compared_by_list():
    """A model is not told apart from itself, and limits of the kind's figures are judged."""
    use_case = declared("[gates]\nmin_ndcg = 0.5\nmin_mrr = 0.999")
    gates = {gate.name: gate for gate in check_gates(use_case, table(1), bundle(), bundle(), None, False, table(1))}
    assert gates["ndcg"].passed
    assert not gates["mrr"].passed
    assert gates["ndcg - champion's"].passed


@pytest.mark.parametrize(
    ("task", "features", "said"),
    [
        (', classes = ["a"]', FEATURES, "classes"),
        (", at = 0", FEATURES, "greater than or equal to 1"),
        ("", '[features]\nsession = { type = "category" }', "already the group"),
        ("", f"[gates]\nmin_auc = 0.5\n{FEATURES}", "known: min_map, min_mrr, min_ndcg"),
        ("", f'[search]\nmetric = "auc"\n{FEATURES}', "known: ndcg, map"),
        (
            "",
            f'[decision]\nmetric = "f1"\n\n[decision.cost]\nfalse_positive = 1\nfalse_negative = 2\n{FEATURES}',
            "no threshold",
        ),
    ],
)
def test_declaration_that_does_not_fit_is_refused(task: str, features: str, said: str):
    """A key of another kind, a group that is a feature, and figures that there are not."""
    task = f'{{ kind = "ranking", group = "session"{task} }}'
    with pytest.raises(ConfigError, match=said):
        parse_use_case(f'name = "t"\nlabel = "grade"\ntask = {task}\n{features}', "t.toml")


@pytest.mark.parametrize(("group", "role"), [("grade", "label"), ("id", "key"), ("at", "event_time")])
def test_group_has_no_other_role(group: str, role: str):
    """A column that is label, key or time makes no lists."""
    text = (
        f'name = "t"\nlabel = "grade"\nkey = "id"\nevent_time = "at"\ntask = {{ kind = "ranking", group = "{group}" }}'
    )
    with pytest.raises(ConfigError, match=f"task.group: the column is already the {role}"):
        parse_use_case(f"{text}\n{FEATURES}", "t.toml")


@pytest.mark.parametrize("values", [[0, 1, 2.5], [0, 1, -1], [0, 1, 32], ["0", "1", "x"]])
def test_label_that_is_no_grade_is_refused(values: list[object]):
    """Grades are whole numbers from 0 to 31; the error says so."""
    with pytest.raises(DataError, match="grades of relevance: whole numbers from 0 to 31"):
        read_labels(pa.table({"grade": values}), declared(), "t.parquet")


def test_ranking_that_does_not_fit_into_memory_is_refused(tmp_path: Path):
    """Pieces of a table would divide its lists: the error says how much memory is needed."""
    file = tmp_path / "t.parquet"
    write_table(pa.concat_tables([table()] * 20), file)
    settings = Settings(train_memory_mb=1, var_dir=tmp_path)
    with (
        pytest.raises(DataError, match=r"whole lists in memory: raise RAYSCORE_TRAIN_MEMORY_MB to 14,"),
        prepared_table(file, declared(), settings),
    ):
        pass


def test_report_tells_lists_and_draws_them(tmp_path: Path):
    """The card has the figures, every baseline and what a list is; the plots are by place, by size and by slice."""
    use_case = declared('slices = ["w"]')
    source, prepared, trials, model, figures = finish_in_process(table(), use_case, 3)
    gains = importance(model.booster, prepared.schema.names)
    card = write_card(use_case, TrainingOutcome(source, prepared, model, figures, trials[0], 3, gains))
    held = len(set(source.table.column("session").take(pa.array(prepared.parts.holdout)).to_pylist()))
    for said in (
        f"the holdout has {held} lists of 2 to",
        "random order",
        POPULARITY,
        "ridge regression",
        "0 in ",
        "different `session`",
    ):
        assert said in card
    assert "Calibration\n" not in card
    write_plots(tmp_path, use_case, prepared.holdout, model, figures, prepared.schema.names)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {"feature_importance.png", "gain_curve.png", "ndcg_by_list_size.png", "slices.png"}


def test_margin_of_a_ranking_is_explained():
    """Contributions of the features add up to the score, which is the trees' margin."""
    matrix = Transform(bundle().manifest.schema_).matrix(table().slice(0, 50))
    found = TreeShap(bundle()).explain(matrix)
    assert found[:, 1] == pytest.approx(OnnxScorer(bundle().onnx).scores(matrix)[:, 0], abs=1e-5)
    assert found[:, 0] + found[:, 2:].sum(axis=1) == pytest.approx(found[:, 1])
