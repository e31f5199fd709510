"""`rayscore score`: a table through the champion, spread over the cluster, resumed where it was ended."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from data.cli.options import add_events, add_use_case, events_of
from data.cli.terminal import note, note_all, progress, say
from data.distributed.pieces import Pieces, Placement, parquet_pieces
from data.distributed.runner import runner
from data.errors import ConfigError, DataError
from data.feature_views.events.event_tables import left_out_lines
from data.schema.reason_codes import ReasonCodes
from data.schema.use_case import load_use_case
from data.settings import Settings, load_settings
from data.sources.filesystems import absolute, base_name, named, remove_file, url
from data.sources.locked_folder import scratch_folder
from data.sources.parquet import Chunk, ParquetSource, open_source
from data.sources.partial_output import PartialOutput, check_output, open_parts, partial_folder, refuse_own_input
from ray_app.batch.finished_blocks import finished_blocks, refused_path, total, unfinished
from ray_app.batch.refused_rows import BlockCounts
from ray_app.batch.scoring import ALL, KEYS, MODEL_VERSION, ScoringJob, part_name, plan, refused_name, score_rows
from ray_app.batch.table_windows import ScoredTable
from ray_app.batch.written_windows import Scratch
from ray_app.control.replicas.served_models import find_champion
from tune.registry.bundle import Bundle

_EXAMPLES = """examples:
  rayscore score in.parquet out.parquet
  rayscore score --carry all transactions/ scored/
  rayscore score --explain in.parquet explained.parquet
  rayscore score --history yesterday.parquet today.parquet scored.parquet
  rayscore score --carry transaction_id,amount --concurrency 8 --label pool=batch transactions/ scored/

exit codes: 0 done, 2 could not run, 130 interrupted; after the last two the same command goes on with what is done
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Writes what the model answers for each row and the model's version, beside the columns that "
        "--carry names. Online features that the table lacks are read from the store. Rows that HTTP would refuse are "
        "counted and written beside the output, with the reasons."
    )
    parser.epilog = _EXAMPLES
    add = parser.add_argument
    add("input", type=Path, metavar="IN", help="Parquet file or folder")
    add("output", type=Path, metavar="OUT", help="file (ends in .parquet) or folder to write")
    add_events(parser)
    add_use_case(parser)
    add("--alias", help="registry alias to score with (default: RAYSCORE_MODEL_ALIAS, champion)")
    add("--bundle", type=Path, metavar="DIR", help="score with a bundle's folder instead of the registry")
    add(
        "--carry",
        default=KEYS,
        metavar="COLUMNS",
        help=f"columns of the input to write too: '{KEYS}' (key, entity and event time, the default), '{ALL}', "
        "or names separated by commas",
    )
    add("--explain", action="store_true", help="write what made each score too; needs [explanation] in the use case")
    add("--strict", action="store_true", help="write nothing when a row is refused; without it they go beside OUT")
    add("--fresh", action="store_true", help="begin anew, even if a run of this command was ended before its end")
    add("--concurrency", type=int, metavar="N", help="pieces scored at once, one CPU each (default: all free CPUs)")
    add(
        "--label",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="run on nodes of the cluster with this Ray label only; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    """Score the table as the options say and return the exit code.

    Raises:
        ConfigError: an option is wrong.
        RayscoreError: the table, model, store or output cannot be used, or rows are refused and `--strict` is given;
            finished parts are kept for the next run.
    """
    placement = _placement(args.concurrency, args.label)
    settings = load_settings(use_case=args.use_case, model_alias=args.alias)
    source, out = open_source(absolute(args.input)), absolute(args.output)
    for written in (out, refused_path(out)):
        refuse_own_input(source, written)
    check_output(out)
    bundle, version = _model(args.bundle, settings)
    with ExitStack() as stack:

        def scratch(pieces: Pieces[Chunk]) -> Scratch:
            folder = stack.enter_context(scratch_folder(windows_place(out, settings), out))
            return Scratch(folder, stack.enter_context(runner(pieces, placement)))

        table = ScoredTable(source, events_of(args), scratch)
        reasons = _reasons(settings, bundle) if args.explain else None
        job = plan(settings, bundle, version, table, partial_folder(out), args.carry, reasons)
        if job.windows is not None:
            note_all(left_out_lines(job.windows.left_out))
        counts = _write(args, source, job, out, placement)
    model = f"{bundle.manifest.name} version {version}"
    say(f"{named(args.output)}: {counts.rows - counts.refused_rows:,} rows scored by {model}")
    _report(counts, job, out)
    note_all(source.report)
    return 0


def windows_place(out: Path, settings: Settings) -> Path:
    """Return the path on this machine beside which windows are written: of `out`, and of no other output."""
    address = url(out)
    if address is None:
        return out.with_name(f"{out.name}.windows")
    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    return settings.var_dir.absolute() / "score" / f"{base_name(out)}-{digest}.windows"


def _write(
    args: argparse.Namespace, source: ParquetSource, job: ScoringJob, out: Path, placement: Placement
) -> BlockCounts:
    with open_parts(out, job.fingerprint, args.fresh) as parts:
        done = finished_blocks(parts, source)
        _score(source, job, parts, done, placement)
        counts = total(done.values())
        if args.strict and counts.refused_rows:
            raise DataError("\n  ".join([f"{named(args.input)}: {_refused_text(counts)}", *counts.refused_lines()]))
        parts.publish([part_name(first) for first in sorted(done)], _refused_output(out, done))
    return counts


def _report(counts: BlockCounts, job: ScoringJob, out: Path) -> None:
    if not counts.refused_rows:
        remove_file(refused_path(out))
    else:
        say(f"{named(refused_path(out))}: {_refused_text(counts)}")
    note_all(f"  {line}" for line in [*counts.refused_lines(), *counts.unseen_lines()])
    if MODEL_VERSION not in job.added:
        note(f"the output's own columns are {', '.join(job.added)}: a column that is carried has the plain name")


def _refused_text(counts: BlockCounts) -> str:
    return f"{counts.refused_rows:,} of {counts.rows:,} rows refused, as HTTP would refuse them"


def _refused_output(out: Path, done: Mapping[int, BlockCounts]) -> dict[Path, list[str]]:
    names = [refused_name(first) for first in sorted(done) if done[first].refused_rows]
    return {refused_path(out): names} if names else {}


def _score(
    source: ParquetSource, job: ScoringJob, parts: PartialOutput, done: dict[int, BlockCounts], placement: Placement
) -> None:
    """Score what is not done yet; `done`, the counts of each block by its first row, grows by it."""
    left = unfinished(source, done)
    if done:
        note(f"resuming: {len(source.chunks) - len(left):,} of {len(source.chunks):,} parts are done")
    parts.clear([name for first in done for name in (part_name(first), refused_name(first))])
    rows = sum(chunk.rows for chunk in left)
    pieces = replace(parquet_pieces(source, job.columns), pieces=left, rows=rows)
    if not left:
        return
    with runner(pieces, placement) as run_steps, progress("score", rows) as advance:
        for first, counts in run_steps(pieces, partial(score_rows, job=job), small_results=True):
            done[first] = counts
            advance(counts.rows)


def _placement(concurrency: int | None, labels: Sequence[str]) -> Placement:
    if concurrency is not None and concurrency < 1:
        raise ConfigError(f"--concurrency {concurrency}: expected 1 or more")
    wrong = [label for label in labels if not all(label.partition("="))]
    if wrong:
        raise ConfigError(
            f"--label {wrong[0]}: expected KEY=VALUE, e.g. pool=batch as in ray start --labels pool=batch"
        )
    return Placement(concurrency, {key: value for key, _, value in (label.partition("=") for label in labels)})


def _reasons(settings: Settings, bundle: Bundle) -> ReasonCodes:
    """Return the reason codes of the bundle's use case; raises ConfigError when it declares none."""
    use_case = load_use_case(settings.use_case)
    if use_case.name != bundle.manifest.name:
        raise ConfigError(
            f"--explain: the model is of use case '{bundle.manifest.name}' and the reason codes would be those of "
            f"'{use_case.name}'; name the file with --use-case"
        )
    if use_case.explanation is None:
        raise ConfigError(
            f"--explain: use case '{use_case.name}' declares no reason codes; add [explanation] to its file"
        )
    return use_case.explanation


def _model(directory: Path | None, settings: Settings) -> tuple[Bundle, str]:
    if directory is not None:
        return Bundle.load(directory), "file"
    champion = find_champion(settings)
    return champion.bundle, champion.version
