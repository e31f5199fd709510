"""`rayscore skew`, and the skew proof of `promote`: makes the proof from the options and prints its findings."""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from pathlib import Path

import pyarrow as pa
from rich.table import Table

from data.cli.options import add_events, add_use_case, events_of
from data.cli.terminal import EXIT_REFUSED, note_all, progress, say, show_table
from data.errors import ConfigError
from data.schema.use_case import UseCase
from data.sources.parquet import open_source, read_source
from tune.cli import skew_in_time
from tune.cli.context import open_context
from tune.promotion.promotion import Prove, read_holdout
from tune.registry.bundle import Bundle
from tune.registry.registry import ResolvedModel
from tune.registry.traffic_rules import CHAMPION
from tune.skew.diagnosis import diagnose
from tune.skew.expected_online_values import stored_values
from tune.skew.http_replay import ReplayPace, prove
from tune.skew.in_time_comparison import InTimeProof
from tune.skew.log_replay import prove_log
from tune.skew.row_comparison import SHOWN, FieldDifference, RowMismatch, SkewProof, shown_scores
from tune.skew.service_client import ServiceClient

DEFAULT_ROWS = 10_000

_DEFAULT_RATE = 2000.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `skew`."""
    parser.add_argument("model", metavar="VERSION|ALIAS", nargs="?", help="default: the champion that is served")
    parser.add_argument("--url", help="of the service to replay rows through, e.g. http://127.0.0.1:8000")
    add_options(parser)
    add_use_case(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `skew` and `promote` share."""
    parser.add_argument(
        "--rows",
        type=int,
        metavar="N",
        help=f"rows that must be compared (default: [gates] skew_rows, else {DEFAULT_ROWS:,})",
    )
    parser.add_argument(
        "--log", type=Path, metavar="FOLDER", help="prove on the rows of a prediction log instead of a running service"
    )
    parser.add_argument("--data", type=Path, metavar="PATH", help="Parquet to replay (default: the version's holdout)")
    parser.add_argument(
        "--stored", type=Path, metavar="PATH", help="Parquet that was materialized: online values are held against it"
    )
    parser.add_argument(
        "--in-time",
        action="store_true",
        help="replay events and rows in order through the service's scratch stores, and compare every bit",
    )
    add_events(parser)
    parser.add_argument(
        "--rate",
        type=float,
        default=_DEFAULT_RATE,
        metavar="N",
        help=f"most rows a second (default: {_DEFAULT_RATE:g})",
    )


def prover(args: argparse.Namespace, url: str | None, use_case: UseCase) -> Prove | None:
    """Return the function that makes the proof, by the service at `url` or by `--log`; None when neither is named.

    Raises:
        ConfigError: an option is out of range or goes with another one only, or `url` is not a URL.
    """
    if args.in_time:
        return skew_in_time.prover(args, url, use_case)
    _refuse_events(args)
    rows = args.rows if args.rows is not None else use_case.gates.skew_rows or DEFAULT_ROWS
    if rows < 1:
        raise ConfigError(f"--rows {rows}: expected 1 or more")
    if not args.rate > 0:
        raise ConfigError(f"--rate {args.rate:g}: expected more than 0")
    if url is not None and args.log is not None:
        raise ConfigError("--log: a proof is made of a running service or of a prediction log, not of both")
    if url is None:
        _refuse_options(args, ("data", "stored") if args.log else ("data", "stored", "rows"))
        return _by_log(args, rows) if args.log else None
    # Opened here for its check of the URL: a wrong one is refused before any model is loaded.
    with closing(ServiceClient(url)):
        return _by_replay(args, url, rows, use_case)


def _refuse_events(args: argparse.Namespace) -> None:
    paths = events_of(args)
    if paths.history is not None or paths.others:
        raise ConfigError(f"--{'events' if paths.others else 'history'}: belongs to a proof in time; add --in-time")


def _refuse_options(args: argparse.Namespace, options: tuple[str, ...]) -> None:
    for option in options:
        if getattr(args, option) is not None:
            raise ConfigError(f"--{option}: belongs to a proof by a running service; name its URL")


def _by_log(args: argparse.Namespace, rows: int) -> Prove:
    def make(model: ResolvedModel, holdout: pa.Table) -> SkewProof:
        with progress("skew proof", rows) as advance:
            return prove_log(model.bundle, model.version, args.log, rows, advance)

    return make


def _by_replay(args: argparse.Namespace, url: str, rows: int, use_case: UseCase) -> Prove:
    def make(model: ResolvedModel, holdout: pa.Table) -> SkewProof:
        table = holdout if args.data is None else _table(args.data)
        stored = stored_values(args.stored, use_case, int(time.time() * 1e6)) if args.stored else None
        with closing(ServiceClient(url, model.version)) as service, progress("skew proof", rows) as advance:
            return prove(model.bundle, table, service, ReplayPace(rows, args.rate), stored, advance)

    return make


def run(args: argparse.Namespace) -> int:
    """Make the proof of one version, by default of the one that is served, print it, and return the exit code.

    Raises:
        ConfigError: neither service nor log is named, or as `prover`.
        ServiceError: the service does not answer, or serves another use case or version.
        ModelNotFound: the version, or its holdout, is not in the registry.
    """
    context = open_context(args)
    use_case = context.use_case
    make = prover(args, args.url, use_case)
    if make is None:
        raise ConfigError("name a running service with --url, or a prediction log with --log")
    model_name = args.model or (CHAMPION if args.url is None else _served_version(args.url, use_case))
    model = context.registry.resolve(use_case.name, model_name)
    elsewhere = args.log or (args.data and not args.in_time)
    holdout = pa.table({}) if elsewhere else read_holdout(context.registry, model)
    proof = make(model, holdout)
    print_proof(proof, model.bundle)
    return 0 if proof.passed else EXIT_REFUSED


def _served_version(url: str, use_case: UseCase) -> str:
    with closing(ServiceClient(url)) as service:
        return service.champion(use_case.name)


def print_proof(proof: SkewProof, bundle: Bundle) -> None:
    """Print what was compared; when rows differ, the first ten field by field, and the likely causes."""
    in_time = proof if isinstance(proof, InTimeProof) else None
    where = ", ".join(f"{count:,} from {source}" for source, count in sorted(proof.fields.items()))
    say(f"version {proof.version}: {proof.summary}; {proof.fields.total():,} values" + (f": {where}" if where else ""))
    for line in skew_in_time.disturbances(in_time) if in_time else ():
        say(line)
    if proof.first_refusal:
        say(f"refused, the first: {proof.first_refusal}")
    for mismatch in proof.mismatches[:SHOWN]:
        _print_mismatch(mismatch)
    for line in in_time.causes if in_time else ():
        say(line)
    for finding in () if in_time else diagnose(proof.mismatches, bundle):
        touched = f" ({', '.join(finding.features)})" if finding.features else ""
        of = f"{finding.rows:,} of the {len(proof.mismatches):,} rows looked at"
        say(f"it looks like this: {finding.kind.value}{touched}, {of}; {finding.example}")
    if proof.passed:
        say("serving computes what training computed")
    elif proof.compared < proof.wanted:
        say(f"no proof: {proof.compared:,} of {proof.wanted:,} rows were compared; {_advice(proof)}")
    else:
        say("no proof: serving does not compute what training computed")


def _advice(proof: SkewProof) -> str:
    if proof.degraded:
        return "see why the online store does not answer"
    return "there are no more; give another table with --data, or ask for fewer rows with --rows"


def _print_mismatch(mismatch: RowMismatch) -> None:
    same = shown_scores(mismatch.online) == shown_scores(mismatch.offline)
    say(
        f"\nrow {mismatch.row}: score {shown_scores(mismatch.online)} online, {shown_scores(mismatch.offline)} offline"
        f"{' (the same)' if same else ''}, request {mismatch.request_id}",
    )
    table = Table("field", "sent", "online", "offline", "", box=None)
    for line in mismatch.lines:
        table.add_row(line.name, _shown(line.sent), _online(line), _offline(line), line.fault)
    show_table(table)
    if mismatch.rescored:
        say(f" the bundle scores the online values {shown_scores(mismatch.implied)}")


def _online(line: FieldDifference) -> str:
    return f"{_shown(line.used.value)} from {line.used.source}{_code(line.used.value, line.online)}"


def _offline(line: FieldDifference) -> str:
    return f"{_shown(line.offline_value)}{_code(line.offline_value, line.offline)}"


def _code(value: object, encoded: float) -> str:
    """The encoded value, where it differs from the value itself: categories become numbers."""
    return f" = {encoded:g}" if isinstance(value, str) else ""


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def _table(path: Path) -> pa.Table:
    source = open_source(path)
    note_all(source.report)
    return read_source(source)
