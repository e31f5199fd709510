"""`rayscore skew`, and the skew proof of `promote`: options in, a proof and what it found in words out."""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from data.cli.options import add_use_case
from data.cli.terminal import EXIT_REFUSED, progress
from data.errors import ConfigError
from data.schema.use_case import UseCase
from data.sources.parquet import read_table
from tune.cli.context import open_context
from tune.promotion.promotion import Prove, read_holdout
from tune.registry.bundle import Bundle
from tune.registry.registry import ResolvedModel
from tune.registry.traffic_rules import CHAMPION
from tune.skew.diagnosis import diagnose
from tune.skew.expected_online_values import stored_values
from tune.skew.http_replay import ReplayPace, prove
from tune.skew.log_replay import prove_log
from tune.skew.row_comparison import SHOWN, FieldDifference, RowMismatch, SkewProof
from tune.skew.service_client import ServiceClient

DEFAULT_ROWS = 10_000

_DEFAULT_RATE = 2000.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `skew` takes."""
    parser.add_argument("model", metavar="VERSION|ALIAS", nargs="?", help="default: the champion that is served")
    parser.add_argument("--url", help="of the service to replay rows through, e.g. http://127.0.0.1:8000")
    add_options(parser)
    add_use_case(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what `skew` and `promote` have in common."""
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
        "--rate",
        type=float,
        default=_DEFAULT_RATE,
        metavar="N",
        help=f"most rows a second (default: {_DEFAULT_RATE:g})",
    )


def prover(args: argparse.Namespace, url: str | None, use_case: UseCase) -> Prove | None:
    """Return the function that makes the proof which the options ask for, by the service at `url` or by a log, if any.

    Raises:
        ConfigError: an option is out of range or goes with another one only, or the URL is none.
    """
    rows = args.rows if args.rows is not None else use_case.gates.skew_rows or DEFAULT_ROWS
    if rows < 1:
        raise ConfigError(f"--rows {rows}: expected 1 or more")
    if not args.rate > 0:
        raise ConfigError(f"--rate {args.rate:g}: expected more than 0")
    if url is not None and args.log is not None:
        raise ConfigError("--log: a proof is made of a running service or of a prediction log, not of both")
    if url is None:
        _refuse(args, ("data", "stored") if args.log else ("data", "stored", "rows"))
        return _by_log(args, rows) if args.log else None
    with closing(ServiceClient(url)):
        return _by_replay(args, url, rows, use_case)


def _refuse(args: argparse.Namespace, options: tuple[str, ...]) -> None:
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
        table = holdout if args.data is None else read_table(args.data)
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
    desk = open_context(args)
    use_case = desk.use_case
    make = prover(args, args.url, use_case)
    if make is None:
        raise ConfigError("name a running service with --url, or a prediction log with --log")
    wanted = args.model or (CHAMPION if args.url is None else _served(args.url, use_case))
    model = desk.registry.resolve(use_case.name, wanted)
    holdout = pa.table({}) if args.data or args.log else read_holdout(desk.registry, model)
    proof = make(model, holdout)
    print_proof(proof, model.bundle, desk.out)
    return 0 if proof.passed else EXIT_REFUSED


def _served(url: str, use_case: UseCase) -> str:
    with closing(ServiceClient(url)) as service:
        return service.champion(use_case.name)


def print_proof(proof: SkewProof, bundle: Bundle, out: Console) -> None:
    """Print what was compared; when rows differ, the first ten field by field, and what it looks like."""
    where = ", ".join(f"{count:,} from {source}" for source, count in sorted(proof.fields.items()))
    _say(
        out,
        f"version {proof.version}: {proof.summary}; {proof.fields.total():,} values" + (f": {where}" if where else ""),
    )
    if proof.first_refusal:
        _say(out, f"refused, the first: {proof.first_refusal}")
    for mismatch in proof.mismatches[:SHOWN]:
        _print_mismatch(mismatch, out)
    for finding in diagnose(proof.mismatches, bundle):
        touched = f" ({', '.join(finding.features)})" if finding.features else ""
        of = f"{finding.rows:,} of the {len(proof.mismatches):,} rows looked at"
        _say(out, f"it looks like this: {finding.kind.value}{touched}, {of}; {finding.example}")
    if proof.passed:
        _say(out, "serving computes what training computed")
    elif proof.compared < proof.wanted:
        _say(out, f"no proof: {proof.compared:,} of {proof.wanted:,} rows were compared; {_advice(proof)}")
    else:
        _say(out, "no proof: serving does not compute what training computed")


def _advice(proof: SkewProof) -> str:
    if proof.degraded:
        return "see why the online store does not answer"
    return "there are no more; give another table with --data, or ask for fewer rows with --rows"


def _print_mismatch(mismatch: RowMismatch, out: Console) -> None:
    same = abs(mismatch.online - mismatch.offline) < 5e-7
    _say(
        out,
        f"\nrow {mismatch.row}: score {mismatch.online:.6f} online, {mismatch.offline:.6f} offline"
        f"{' (the same)' if same else ''}, request {mismatch.request_id}",
    )
    table = Table("field", "sent", "online", "offline", "", box=None)
    for line in mismatch.lines:
        table.add_row(line.name, _shown(line.sent), _online(line), _offline(line), line.fault)
    out.print(table)
    if mismatch.rescored:
        _say(out, f" the bundle scores the online values {mismatch.implied:.6f}")


def _online(line: FieldDifference) -> str:
    return f"{_shown(line.used.value)} from {line.used.source}{_code(line.used.value, line.online)}"


def _offline(line: FieldDifference) -> str:
    return f"{_shown(line.offline_value)}{_code(line.offline_value, line.offline)}"


def _code(value: object, encoded: float) -> str:
    """What the model sees, where that is not the value itself."""
    return f" = {encoded:g}" if isinstance(value, str) else ""


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def _say(out: Console, text: str) -> None:
    out.print(text, markup=False)
