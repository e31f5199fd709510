"""`python -m tune`: search, list, show, compare, promote, skew, rollout, traffic."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.table import Table

from data.cluster import cluster
from data.console import run_cli
from data.errors import ConfigError
from data.settings import Settings, load_settings
from data.usecase import UseCase, load_use_case
from tune import rollout, skew_command, traffic
from tune.compare import compare, figure_rows, parameter_rows
from tune.compare_plot import write_comparison
from tune.figures import Figures
from tune.pipeline import learn
from tune.promotion import Verdict, promote
from tune.registry import CHALLENGER, CHAMPION, Registry
from tune.report import Learned
from tune.sampler import SamplerName
from tune.study import Plan

_COMMANDS = ("search", "list", "show", "compare", "promote", "skew", "rollout", "traffic")
_FIGURES = ("auc", "pr_auc", "f1")
_EXIT_REFUSED = 1

# Tables keep their cells whole in a file or a pipe, whose width is nobody's.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


def main(argv: Sequence[str]) -> int:
    """Run one command; without the name of one it is `search`."""
    given = list(argv)
    if not given or (given[0] not in _COMMANDS and given[0] not in ("-h", "--help")):
        given.insert(0, "search")
    args = _parser().parse_args(given)
    settings = load_settings(use_case=args.use_case)
    use_case = load_use_case(settings.use_case)
    return args.run(args, use_case, settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tune",
        description="Search for a model, look at what is registered, promote.",
        epilog="Without a command: search. Example: python -m tune --data var/train.parquet --trials 20 --promote",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _search_parser(commands)
    listing = _command(commands, "list", _list, "list the registered versions")
    showing = _command(commands, "show", _show, "show a version's model card")
    promoting = _command(commands, "promote", _promote, "make a version the champion if it passes the gates")
    showing.add_argument("model", metavar="VERSION|ALIAS", help="e.g. 3, champion, challenger")
    promoting.add_argument(
        "model", metavar="VERSION|ALIAS", nargs="?", default=CHALLENGER, help="default: challenger, the latest"
    )
    promoting.add_argument("--skew-proof", metavar="URL", help="prove on this service that serving is as training was")
    promoting.add_argument("--new-schema", action="store_true", help="let the schema differ from the champion's")
    proving = _command(commands, "skew", _skew, "prove that a running service computes what training computed")
    proving.add_argument("model", metavar="VERSION|ALIAS", nargs="?", help="default: the champion that is served")
    proving.add_argument("--url", help="of the service to replay rows through, e.g. http://127.0.0.1:8000")
    for each in (promoting, proving):
        skew_command.add_options(each)
    comparing = _command(commands, "compare", _compare, "hold two runs or versions side by side")
    for place in ("one", "other"):
        comparing.add_argument(place, metavar="RUN|VERSION|ALIAS", help="id of an MLflow run, version or alias")
    comparing.add_argument("--plot", type=Path, metavar="PNG", help="write the comparison as a picture too")
    rolling = _command(commands, "rollout", _rollout, "give a version traffic step by step while it does no worse")
    rollout.add_options(rolling)
    directing = _command(commands, "traffic", _traffic, "show or set which version answers whom")
    traffic.add_options(directing)
    for each in (listing, showing, comparing, promoting, proving, rolling, directing):
        _use_case_option(each)
    return parser


def _search_parser(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "search", _search, "search, fit and register a challenger (the default command)")
    _use_case_option(parser)
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


def _command(commands: argparse._SubParsersAction, name: str, run: object, description: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=description, description=description)
    parser.set_defaults(run=run)
    return parser


def _use_case_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--use-case", metavar="F", help="name or file of the use case (default: RAYSCORE_USE_CASE, else card_fraud)"
    )


def _search(args: argparse.Namespace, use_case: UseCase, settings: Settings) -> int:
    for option in ("trials", "concurrency"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise ConfigError(f"--{option} {value}: expected 1 or more")
    if args.seed < 0:
        raise ConfigError(f"--seed {args.seed}: expected 0 or more")
    sampler = SamplerName(args.sampler)
    plan = Plan(args.data, args.trials, args.seed, args.resume, args.concurrency, sampler)
    started = time.monotonic()
    try:
        with cluster():
            learned = learn(use_case, plan, settings)
    except KeyboardInterrupt:
        _say("stopped; the same command with --resume goes on")
        raise
    _print_learned(learned, use_case, settings, time.monotonic() - started)
    if args.promote:
        return _print_verdict(promote(_registry(settings), use_case, learned.version), use_case)
    _say(f"promote it: python -m tune promote --use-case {settings.use_case}")
    return 0


def _list(args: argparse.Namespace, use_case: UseCase, settings: Settings) -> int:
    versions = _registry(settings).list(use_case.name)
    if not versions:
        _say(f"no version of '{use_case.name}' is registered at {settings.tracking_uri}")
        return 0
    table = Table("version", "aliases", "made (UTC)", *_FIGURES, "run", box=None)
    for each in versions:
        made = datetime.fromtimestamp(each.created_ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M")
        figures = [_short(each.tags.get(name)) for name in _FIGURES]
        table.add_row(each.version, ", ".join(each.aliases), made, *figures, each.run_id)
    out.print(table)
    return 0


def _show(args: argparse.Namespace, use_case: UseCase, settings: Settings) -> int:
    model = _registry(settings).resolve(use_case.name, args.model)
    manifest = model.bundle.manifest
    aliases = f" ({', '.join(model.aliases)})" if model.aliases else ""
    _say(f"{model.name} version {model.version}{aliases}, made {manifest.created_at}, run {model.run_id}")
    _say(f"schema {manifest.schema_.fingerprint}, view {manifest.view}, threshold {manifest.threshold:.4g}")
    _say(f"versions: {', '.join(f'{name} {version}' for name, version in manifest.versions.items())}\n")
    _say(model.bundle.card)
    return 0


def _compare(args: argparse.Namespace, use_case: UseCase, settings: Settings) -> int:
    if args.plot and args.plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {args.plot}: the name must end in .png")
    found = compare(_registry(settings), use_case, args.one, args.other)
    names = found.one.name, found.other.name
    for head, rows in (
        (("parameter", *names), parameter_rows(found)),
        (("on the holdout", *names, "paired difference"), figure_rows(found)),
    ):
        table = Table(*head, box=None)
        for row in rows:
            table.add_row(*row)
        out.print(table)
        _say("")
    _say(f"{names[0]} minus {names[1]} on the same rows" if found.shared else f"no paired difference: {found.reason}")
    if args.plot:
        write_comparison(args.plot, found)
        _say(f"{args.plot}: written")
    return 0


def _promote(args: argparse.Namespace, use_case: UseCase, settings: Settings) -> int:
    prove = skew_command.prover(args, args.skew_proof, use_case)
    verdict = promote(_registry(settings), use_case, args.model, prove, args.new_schema)
    if verdict.proof and not verdict.proof.passed:
        skew_command.print_proof(verdict.proof, verdict.bundle, out)
        _say("")
    return _print_verdict(verdict, use_case)


def _skew(args: argparse.Namespace, use_case: UseCase, settings: Settings) -> int:
    return 0 if skew_command.prove_skew(args, use_case, _registry(settings), out) else _EXIT_REFUSED


def _rollout(args: argparse.Namespace, use_case: UseCase, settings: Settings) -> int:
    return rollout.run(args, rollout.Desk(_registry(settings), use_case, _say, out.print))


def _traffic(args: argparse.Namespace, use_case: UseCase, settings: Settings) -> int:
    return traffic.run(args, rollout.Desk(_registry(settings), use_case, _say, out.print))


def _print_verdict(verdict: Verdict, use_case: UseCase) -> int:
    table = Table("gate", "value", "limit", "verdict", box=None)
    for gate in verdict.gates:
        table.add_row(gate.name, gate.value, gate.limit, gate.verdict)
    out.print(table)
    if verdict.passed:
        _say(f"{use_case.name} version {verdict.version} is now the {CHAMPION}")
        return 0
    _say(f"{use_case.name} version {verdict.version} is not promoted; the {CHAMPION} stays as it was")
    return _EXIT_REFUSED


def _print_learned(learned: Learned, use_case: UseCase, settings: Settings, seconds: float) -> None:
    _say(f"\n{learned.trials} trials in {seconds:.0f} s; best is trial {learned.best.number}:")
    _say("  " + ", ".join(f"{name} {_plain(value)}" for name, value in sorted(learned.best.params.items())))
    metric = use_case.search.metric.value
    validation = f"{learned.figures.validation[metric]:.4f}"
    _say(f"  {learned.best.rounds} rounds, {metric} {validation} on validation\n")
    _print_figures(learned.figures, metric)
    low, high = learned.figures.holdout.intervals[metric]
    _say(f"{metric}: 95 % interval {low:.4f} to {high:.4f}; on validation, which chose it, {validation}")
    for alarm in learned.figures.alarms:
        if alarm.leak:
            _say(f"LEAK? {alarm.column} {alarm.text}")
    _say("")
    _say(f"registered: {use_case.name} version {learned.version}, alias {CHALLENGER}")
    _say(f"look at it: {_where_to_look(settings)}")


def _print_figures(figures: Figures, metric: str) -> None:
    """The model and the baselines on the holdout, and by how much each is beaten."""
    names = (*_FIGURES, "brier", "ece", *(["cost"] if "cost" in figures.holdout.metrics else []))
    table = Table("on the holdout", *names, f"this model's {metric} minus its", "95 % interval", "", box=None)
    table.add_row("this model", *(f"{figures.holdout.metrics[name]:.4f}" for name in names))
    for baseline, measured in figures.baselines.items():
        found = figures.differences[baseline]
        beaten = f"{found.value:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}", found.verdict
        table.add_row(baseline, *(f"{measured[name]:.4f}" for name in names), *beaten)
    out.print(table)


def _where_to_look(settings: Settings) -> str:
    uri = settings.tracking_uri
    return uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"


def _plain(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _short(figure: str | None) -> str:
    return f"{float(figure):.4f}" if figure else ""


def _registry(settings: Settings) -> Registry:
    return Registry(settings.tracking_uri, settings.artifact_dir)


def _say(text: str) -> None:
    out.print(text, markup=False)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # `ray job stop` sends SIGTERM: it must end the MLflow run as Ctrl-C does.
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run_cli(main, sys.argv[1:]))
