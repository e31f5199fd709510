"""A finished search without Ray: trials, model, figures, as the report gets them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.schema.use_case import UseCase
from tune.dataset.encoded_examples import PreparedDataset, prepare
from tune.dataset.table_in_time import table_in_time
from tune.dataset.training_table import NO_EVENTS, TrainingTable, fingerprint
from tune.evaluation.holdout_evaluation import HoldoutEvaluation, judge
from tune.evaluation.leakage import find_alarms
from tune.pipeline.pipeline import final_fits
from tune.search.sampler import Sampler, SamplerName
from tune.search.trial import Trial, best_trial
from tune.tasks.kinds import learning_task
from tune.training.boosting import Boosting, base_params
from tune.training.final_fits import run_here
from tune.training.final_model import FinalModel, complete
from tune.training.fold_matrices import fold_matrices


class Finished(NamedTuple):
    """What the report is written from."""

    source: TrainingTable
    prepared: PreparedDataset
    trials: list[Trial]
    model: FinalModel
    figures: HoldoutEvaluation


def source_of(table: pa.Table, use_case: UseCase) -> TrainingTable:
    """A table as training reads it."""
    labels = table.column(use_case.label).to_numpy().astype(np.uint8)
    found, own, left_out = table_in_time(table, use_case, NO_EVENTS, holds_windows=False)
    return TrainingTable(found, labels, Path("table.parquet"), fingerprint(table), own=own, left_out=left_out)


def search_in_process(use_case: UseCase, prepared: PreparedDataset, count: int) -> list[Trial]:
    """Trials one after the other, every third of them stopped early."""
    searched = use_case.search
    folds = fold_matrices(prepared.development, prepared.folds, prepared.feature_types, 1)
    trials, sampler = [], Sampler(SamplerName.RANDOM, searched.space, 0)
    for number in range(count):
        params = sampler.ask(number)
        stopped = number % 3 == 2
        learning = learning_task(use_case)
        boosting = Boosting({**base_params(learning, 1, 0), **params}, learning, folds, 40, 10)
        boosting.advance(6 if stopped else 40)
        trials.append(
            Trial(
                number=number,
                params=params,
                history=boosting.history,
                losses=boosting.losses,
                seconds=0.1,
                stopped_early=stopped,
            )
        )
    return trials


def finish_in_process(table: pa.Table, use_case: UseCase, count: int = 9) -> Finished:
    """Search, fit the best trial and judge it."""
    source = source_of(table, use_case)
    prepared = prepare(source, use_case)
    alarms = find_alarms(source, prepared, use_case)
    trials = search_in_process(use_case, prepared, count)
    best = best_trial(trials)
    model = complete(use_case, prepared, final_fits(use_case, prepared, best, 0, run_here))
    return Finished(source, prepared, trials, model, judge(use_case, source, prepared, model, alarms))
