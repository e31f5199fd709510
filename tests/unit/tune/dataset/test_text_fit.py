"""Text fits: what trees see of a row's text comes from fits that did not learn from the row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data.errors import DataError
from data.schema.use_case import UseCase, parse_use_case
from data.settings import Settings
from data.sources.atomic_output import write_table
from tune.dataset.encoded_examples import PreparedDataset, prepare
from tune.dataset.folds import NOT_JUDGED
from tune.dataset.loading import prepared_table
from tune.dataset.training_table import TrainingTable, read_labels

ROWS = 600
TASKS = {
    "binary": ("answer", '{ positive = "yes", negative = "no" }', ["note[score]", "note[for score]", "note[words]"]),
    "regression": ("amount", '{ kind = "regression" }', ["note[score]", "note[for score]", "note[words]"]),
    "multiclass": (
        "size",
        '{ kind = "multiclass", classes = ["s", "m", "words"] }',
        ["note[s]", "note[m]", "note[words]", "note[for s]", "note[for m]", "note[for words]", "note[words_2]"],
    ),
}


def declared(kind: str = "binary", extra: str = "") -> UseCase:
    """A use case of a text alone, of one of `TASKS`."""
    label, task, _ = TASKS[kind]
    text = f'name = "notes"\nlabel = "{label}"\ntask = {task}\n{extra}\n[features]\nnote = {{ type = "text" }}\n'
    return parse_use_case(text, "notes.toml")


def table(words: str = "own") -> pa.Table:
    """Random labels beside a text that says nothing of them, of words of its own; or the label itself in words."""
    rng = np.random.default_rng(0)
    size = rng.integers(0, 3, ROWS)
    said = [f"token{row} mark{row}" if words == "own" else f"it is {'smw'[code]}" for row, code in enumerate(size)]
    return pa.table(
        {
            "note": said,
            "size": np.array(["s", "m", "words"])[size],
            "answer": np.where(size == 0, "yes", "no"),
            "amount": size + 0.1 * rng.normal(size=ROWS),
            "at": pa.array(np.arange(ROWS) * 3_600_000_000, pa.timestamp("us")),
        }
    )


def _told(scores: np.ndarray, labels: np.ndarray) -> float:
    """How much scores tell of labels, 0 to 1."""
    return abs(float(np.corrcoef(scores, labels)[0, 1])) if np.ptp(scores) else 0.0


def prepared_of(use_case: UseCase, rows: pa.Table) -> PreparedDataset:
    """The table, split and encoded."""
    return prepare(TrainingTable(rows, read_labels(rows, use_case, "t"), Path("t"), "f" * 16), use_case)


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("extra", ["", 'event_time = "at"', "split = { folds = 1 }"])
def test_text_of_one_row_does_not_leak_its_label(kind, extra):
    """Words that one row alone has tell nothing of its label, whatever the folds are; shared ones tell all."""
    use_case = declared(kind, extra)
    for words, told in (("own", False), ("shared", True)):
        prepared = prepared_of(use_case, table(words))
        x, labels = prepared.development.x, prepared.development.y
        assert list(prepared.schema.names) == TASKS[kind][2]
        assert not np.isnan(x).any()
        assert (_told(x[:, 0], labels == 0 if kind == "multiclass" else labels) > 0.5) is told


def test_repeated_word_is_scored_by_other_rows():
    """Each row is scored by a fit of rows on the other side of the fold that judges it."""
    rows = table().set_column(0, "note", pa.array([f"pair{row // 2}" for row in range(ROWS)]))
    rows = rows.set_column(2, "answer", pa.array(["yes" if row % 2 else "no" for row in range(ROWS)]))
    prepared = prepared_of(declared(), rows)
    x, y = prepared.development.x[:, 0], prepared.development.y
    # The word is known by the other row of the pair at most, whose label is the opposite one.
    assert np.ptp(x) == 0 or np.corrcoef(x, y)[0, 1] < 0.1


def test_search_by_time_never_scores_with_later_rows():
    """Where folds go forward, the scores of the rows before a block do not change with the labels of that block."""
    use_case = declared(extra='event_time = "at"')
    rows = table("shared")
    first = prepared_of(use_case, rows)
    last = first.folds.count - 1
    changed = first.parts.development[first.folds.of == last]
    answers = np.array(rows["answer"].to_pylist(), object)
    answers[changed] = np.where(answers[changed] == "yes", "no", "yes")
    second = prepared_of(use_case, rows.set_column(2, "answer", pa.array(answers)))
    before = first.folds.of < last
    assert (first.folds.of == NOT_JUDGED).any()
    assert first.development.x[before].tobytes() == second.development.x[before].tobytes()


def test_column_without_a_text_is_refused():
    """A text feature that no training row has is refused by name."""
    rows = table().set_column(0, "note", pa.array([""] * ROWS))
    with pytest.raises(DataError, match="column 'note': no text in any training row"):
        prepared_of(declared(), rows)


def test_table_beyond_memory_is_refused(tmp_path):
    """A table that would be streamed is refused where it has a text, with what to raise."""
    many = pa.concat_tables([table()] * 100)
    write_table(many, tmp_path / "t.parquet")
    settings = Settings(var_dir=tmp_path, train_memory_mb=1)
    with (
        pytest.raises(DataError, match=r"a text feature.*raise RAYSCORE_TRAIN_MEMORY_MB"),
        prepared_table(tmp_path / "t.parquet", declared(), settings),
    ):
        pass
