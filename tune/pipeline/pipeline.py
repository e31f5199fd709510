"""The training pipeline: load and split a table, search, final fit, publication."""

from __future__ import annotations

from data.cli.terminal import note
from data.distributed.ray_cluster import cluster
from data.schema.use_case import UseCase
from data.settings import Settings
from tune.dataset.encoded_examples import PreparedDataset
from tune.dataset.loading import prepared_table
from tune.dataset.training_table import TrainingTable
from tune.evaluation.leakage import find_alarms
from tune.pipeline.publication import PublishedModel, finish
from tune.search.mlflow_runs import MlflowRuns
from tune.search.space import check_space
from tune.search.study import SearchPlan, open_study, trial_log_of
from tune.search.trial import Trial, best_trial
from tune.search.trial_log import TrialLog
from tune.tasks.kinds import learning_task
from tune.training.boosting import base_params
from tune.training.cluster_fits import run_on_cluster
from tune.training.final_fits import FinalFits, MemoryFits, Run, ShardFits
from tune.training.final_model import complete


def learn(use_case: UseCase, plan: SearchPlan, settings: Settings) -> PublishedModel:
    """Train and register a challenger; connects to Ray once a small table is found fit to learn from.

    The MLflow run ends FINISHED, FAILED (an error) or KILLED (Ctrl-C); nothing is registered in the latter two.

    Raises:
        ConfigError: the space is wrong, there is nothing to resume, another search of the use case is under way, or the
            Ray cluster does not answer.
        RayscoreError: the table, MLflow, the training or the bundle failed, by the kind of error.
        KeyboardInterrupt: Ctrl-C; finished trials are kept for `--resume`.
    """
    check_space(use_case.search, learning_task(use_case), len(use_case.features), use_case.schema_.monotone)
    trial_log = trial_log_of(use_case, settings)
    table = prepared_table(plan.data, use_case, settings, plan.events)
    # Held before the table is taken in: a second search would clear the shards that the first one trains on.
    with trial_log.held(), table as (source, prepared):
        return _learn(use_case, plan, settings, source, prepared, trial_log)


def _learn(
    use_case: UseCase,
    plan: SearchPlan,
    settings: Settings,
    source: TrainingTable,
    prepared: PreparedDataset,
    trial_log: TrialLog,
) -> PublishedModel:
    described = learning_task(use_case).describe(source.labels)
    note(f"{source.rows:,} rows, {use_case.label}: {described}, split by {use_case.strategy}")
    folds, wanted = prepared.folds.count, use_case.split.folds or prepared.folds.count
    fewer = " as a label is too rare for more" if prepared.shards is None and folds < wanted else ""
    note(f"searched by {folds} folds{fewer}" if folds > 1 else f"searched by one split{fewer}")
    alarms = find_alarms(source, prepared, use_case)
    for alarm in alarms:
        note(f"{'LEAK?' if alarm.leak else 'note:'} {alarm.column} {alarm.text}")
    tracker = MlflowRuns(settings.tracking_uri, settings.artifact_dir, use_case.name)
    with cluster(), open_study(use_case, plan, source, prepared, trial_log, tracker) as (run_id, trials):
        best = best_trial(trials)
        note(f"final fits: trial {best.number}, {best.rounds} rounds a fold")
        model = complete(use_case, prepared, final_fits(use_case, prepared, best, plan.seed))
        note("figures, plots and model card")
        return finish(use_case, source, prepared, model, trials, alarms, settings, tracker, run_id)


def final_fits(
    use_case: UseCase, prepared: PreparedDataset, best: Trial, seed: int, run: Run = run_on_cluster
) -> FinalFits:
    """The fits of the best trial's parameters; `run` is for tables in memory."""
    params = {**base_params(learning_task(use_case), 1, seed, prepared.schema.monotone), **best.params}
    if prepared.shards is not None:
        return ShardFits(prepared.shards, prepared.feature_types, params, best.rounds)
    return MemoryFits(prepared, params, best.rounds, run)
