"""From a Parquet table to a registered challenger: search, final fit, figures, bundle, registry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import xgboost

from data.console import err
from data.settings import Settings
from data.usecase import UseCase
from tune.distributed import fit_distributed
from tune.examples import Prepared, prepare
from tune.progress import TrialProgress
from tune.report import Learned, finish
from tune.search import search
from tune.space import check_space
from tune.table import TrainingTable, load_training_table
from tune.tracking import Status, Tracker
from tune.train import base_params
from tune.trial import Journal, JournalHead, Trial, best_trial


class Plan(NamedTuple):
    """What the command line asked for."""

    data: Path
    trials: int
    seed: int = 0
    resume: bool = False
    concurrency: int | None = None


def learn(use_case: UseCase, plan: Plan, settings: Settings) -> Learned:
    """Do the whole of it; needs a running Ray.

    The MLflow run ends FINISHED, FAILED (an error) or KILLED (Ctrl-C); nothing is registered in the latter two.

    Raises:
        RayscoreError: of the kind that fits: the table, the use case, the space, MLflow or the bundle.
        KeyboardInterrupt: Ctrl-C; finished trials are kept for `--resume`.
    """
    check_space(use_case.search)
    source = load_training_table(plan.data, use_case)
    prepared = prepare(source, use_case)
    _say(f"{len(source.labels):,} rows, {source.labels.mean():.2%} with label 1, split by {use_case.strategy}")
    tracker = Tracker(settings.tracking_uri, settings.artifact_dir, use_case.name)
    journal = Journal(settings.var_dir / "tune" / f"{use_case.name}.jsonl")
    run_id, finished = _open_run(tracker, journal, use_case, plan, source)
    with _ending(tracker, run_id):
        trials = _run_trials(use_case, plan, prepared, settings, tracker, journal, run_id, finished)
        best = best_trial(trials)
        _say(f"final fit on the cluster: trial {best.number}, {best.rounds} rounds")
        booster = _final_model(use_case, prepared, best, plan.seed)
        _say("figures, plots and model card")
        learned = finish(use_case, source, prepared, booster, trials, settings, tracker, run_id)
    journal.finish()
    return learned


def _open_run(
    tracker: Tracker, journal: Journal, use_case: UseCase, plan: Plan, source: TrainingTable
) -> tuple[str, list[Trial]]:
    text = f"{use_case.model_dump_json()} {source.fingerprint} {plan.seed}"
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    if plan.resume:
        head, finished = journal.read(key)
        tracker.reopen(head.run_id)
        kept = [trial for trial in finished if trial.number < plan.trials]
        _say(f"resuming: {len(kept)} of {plan.trials} trials are done")
        return head.run_id, kept
    params = {
        "data": str(plan.data),
        "data_fingerprint": source.fingerprint,
        "rows": len(source.labels),
        "split": use_case.strategy,
        "metric": use_case.search.metric.value,
        "trials": plan.trials,
        "seed": plan.seed,
    }
    run_id = tracker.start(f"tune {use_case.name}", params)
    journal.start(JournalHead(key=key, run_id=run_id))
    return run_id, []


class _ending:
    """Close the run with the status that fits how the block was left."""

    def __init__(self, tracker: Tracker, run_id: str) -> None:
        self._end: Callable[[Status], None] = lambda status: tracker.end(run_id, status)

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: type[BaseException] | None, exc: object, trace: object) -> None:
        if kind is None:
            self._end("FINISHED")
        else:
            self._end("KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED")


def _run_trials(
    use_case: UseCase,
    plan: Plan,
    prepared: Prepared,
    settings: Settings,
    tracker: Tracker,
    journal: Journal,
    run_id: str,
    finished: list[Trial],
) -> list[Trial]:
    trials = list(finished)
    metric = use_case.search.metric.value
    with TrialProgress(plan.trials, metric, finished) as progress:

        def on_trial(trial: Trial) -> None:
            journal.add(trial)
            trials.append(trial)
            tracker.log_trial(run_id, metric, trial)
            progress.advance(trial)

        search(
            use_case.search,
            prepared.train,
            prepared.validation,
            plan.trials,
            plan.seed,
            finished,
            on_trial,
            settings.var_dir / "tune",
            plan.concurrency,
        )
    return trials


def _final_model(use_case: UseCase, prepared: Prepared, best: Trial, seed: int) -> xgboost.Booster:
    """Fit the best trial's parameters and rounds on the train rows."""
    params = {**base_params(use_case.search.metric, 1, seed), **best.params}
    return fit_distributed(params, prepared.final, best.rounds)


def _say(text: str) -> None:
    err.print(text, markup=False)
