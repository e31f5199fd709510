"""`rayscore tune`: search, fit, register a challenger and print its figures; promote it if asked to."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from data.cli.options import add_events, add_use_case, events_of
from data.cli.terminal import say, show_table
from data.settings import Settings
from tune.cli.context import CommandContext, open_context
from tune.cli.promote import print_verdict
from tune.evaluation.holdout_evaluation import HoldoutEvaluation
from tune.pipeline.pipeline import learn
from tune.pipeline.publication import PublishedModel
from tune.promotion.promotion import promote
from tune.registry.traffic_rules import CHALLENGER
from tune.search.sampler import SamplerName
from tune.search.study import SearchPlan, check_plan
from tune.tasks.kinds import learning_task
from tune.tasks.learning_task import LearningTask


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = "Search for a model on a table, fit it, and register it as the challenger."
    parser.epilog = "example: rayscore tune --data var/train.parquet --trials 20 --promote"
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="Parquet file or folder to learn from")
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="trials of the search (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same trials (default: 0)")
    parser.add_argument("--resume", action="store_true", help="go on with the search that was interrupted")
    parser.add_argument(
        "--sampler",
        choices=[name.value for name in SamplerName],
        default=SamplerName.TPE.value,
        help="where parameters come from: tpe learns from earlier trials (default), random does not",
    )
    parser.add_argument("--concurrency", type=int, metavar="N", help="trials at once (default: by rows and free CPUs)")
    parser.add_argument("--promote", action="store_true", help="promote the outcome if it passes the gates")
    add_events(parser)
    add_use_case(parser)


def run(args: argparse.Namespace) -> int:
    """Search, print the result, promote the version if asked to, and return the exit code.

    Raises:
        ConfigError: an option is wrong, or the Ray cluster does not answer.
        DataError: the table cannot be read, or is not fit to learn from.
        TrainingFailed: no trial came to an end.
        RegistryUnavailable: MLflow does not answer.
    """
    context = open_context(args)
    sampler = SamplerName(args.sampler)
    plan = SearchPlan(args.data, args.trials, args.seed, args.resume, args.concurrency, sampler, events_of(args))
    check_plan(plan, "--")
    started = time.monotonic()
    try:
        learned = learn(context.use_case, plan, context.settings)
    except KeyboardInterrupt:
        say("stopped; the same command with --resume goes on")
        raise
    _print_learned(learned, context, time.monotonic() - started)
    if args.promote:
        return print_verdict(promote(context.registry, context.use_case, learned.version), context)
    say(f"promote it: rayscore promote --use-case {context.settings.use_case}")
    return 0


def _print_learned(learned: PublishedModel, context: CommandContext, seconds: float) -> None:
    say(f"\n{learned.trials} trials in {seconds:.0f} s; best is trial {learned.best.number}:")
    say("  " + ", ".join(f"{name} {_plain(value)}" for name, value in sorted(learned.best.params.items())))
    metric = context.use_case.metric.value
    out_of_fold = f"{learned.figures.out_of_fold[metric]:.4f}"
    say(f"  {learned.best.rounds} rounds a fold, {metric} {out_of_fold} out of fold\n")
    _print_figures(learned.figures, learning_task(context.use_case))
    low, high = learned.figures.holdout.intervals[metric]
    say(f"{metric}: 95 % interval {low:.4f} to {high:.4f}; out of fold, which chose it, {out_of_fold}")
    say("the figures are of the model without the holdout; what is registered has learned from every row")
    for alarm in learned.figures.alarms:
        if alarm.leak:
            say(f"LEAK? {alarm.column} {alarm.text}")
    say("")
    say(f"registered: {context.use_case.name} version {learned.version}, alias {CHALLENGER}")
    say(f"look at it: {_where_to_look(context.settings)}")


def _print_figures(figures: HoldoutEvaluation, learning: LearningTask[Any]) -> None:
    """Print the model and the baselines on the holdout, and the model's paired difference to each baseline."""
    chosen = (learning.metric.value, *learning.headline, "brier", "ece", "coverage", "cost")
    names = [name for name in dict.fromkeys(chosen) if name in figures.holdout.metrics]
    against = f"this model's {learning.metric.value} minus its"
    table = Table("on the holdout", *names, against, "95 % interval", "", box=None)
    table.add_row("this model", *(f"{figures.holdout.metrics[name]:.4f}" for name in names))
    for baseline, measured in figures.baselines.items():
        gain = figures.differences[baseline]
        shown = f"{gain.value:+.4f}", f"{gain.low:+.4f} to {gain.high:+.4f}", gain.verdict
        table.add_row(baseline, *(f"{measured[name]:.4f}" for name in names), *shown)
    show_table(table)


def _where_to_look(settings: Settings) -> str:
    uri = settings.tracking_uri
    return uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"


def _plain(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
