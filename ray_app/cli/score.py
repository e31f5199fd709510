"""`rayscore score`: a table through the champion, spread over the cluster, resumed where it was ended."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from data.cli.options import add_use_case
from data.cli.terminal import err, progress
from data.distributed.ray_cluster import cluster
from data.distributed.ray_tasks import Placement, has_node, run_tasks
from data.errors import ConfigError
from data.settings import Settings, load_settings
from data.sources.parquet import Chunk, open_source
from ray_app.batch.partial_output import PartialOutput, open_parts, refuse_own_input
from ray_app.batch.scoring import ALL, KEYS, ScoringJob, plan, score_chunk
from ray_app.control.served_models import find_champion
from tune.registry.bundle import Bundle

_EXAMPLES = """examples:
  rayscore score in.parquet out.parquet
  rayscore score --carry all transactions/ scored/
  rayscore score --carry transaction_id,amount --concurrency 8 --label pool=batch transactions/ scored/

exit codes: 0 done, 2 could not run, 130 interrupted; after the last two the same command goes on with what is done
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Writes the probability, the label and the model's version for each row, beside the columns that "
        "--carry names. Online features that the table lacks are read from the store."
    )
    parser.epilog = _EXAMPLES
    add = parser.add_argument
    add("input", type=Path, metavar="IN", help="Parquet file or folder")
    add("output", type=Path, metavar="OUT", help="file (ends in .parquet) or folder to write")
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
        RayscoreError: the table, model, store or output cannot be used; finished parts are kept for the next run.
    """
    placement = _placement(args.concurrency, args.label)
    settings = load_settings(use_case=args.use_case, model_alias=args.alias)
    source, out = open_source(args.input.absolute()), args.output.absolute()
    refuse_own_input(source, out)
    bundle, version = _model(args.bundle, settings)
    job = plan(settings, bundle, version, source, args.carry)
    with open_parts(out, job.fingerprint, args.fresh) as parts:
        _score(source.chunks, job, parts, placement)
        parts.publish(source.chunks)
    sys.stdout.write(f"{args.output}: {source.rows:,} rows scored by {bundle.manifest.name} version {version}\n")
    return 0


def _score(chunks: Sequence[Chunk], job: ScoringJob, parts: PartialOutput, placement: Placement) -> None:
    finished = [chunk for chunk in chunks if parts.finished(chunk)]
    parts.clear(keep=finished)
    if finished:
        err.print(f"resuming: {len(finished):,} of {len(chunks):,} parts are done", markup=False)
    left = [chunk for chunk in chunks if chunk not in finished]
    with progress("score", sum(chunk.rows for chunk in left)) as advance:
        for rows in _spread(left, partial(score_chunk, job=job, folder=parts.folder), placement):
            advance(rows)


def _spread(chunks: Sequence[Chunk], score: Callable[[Chunk], int], placement: Placement) -> Iterator[int]:
    # A single chunk is scored here: starting a Ray cluster takes seconds and would speed up nothing.
    if len(chunks) <= 1 and not placement.labels:
        yield from map(score, chunks)
        return
    with cluster():
        if not has_node(placement):
            labels = ", ".join(f"{key}={value}" for key, value in placement.labels.items())
            err.print(f"no node of the cluster has the label {labels}: waiting for one, Ctrl-C ends", markup=False)
        yield from run_tasks(chunks, score, placement)


def _placement(concurrency: int | None, labels: Sequence[str]) -> Placement:
    if concurrency is not None and concurrency < 1:
        raise ConfigError(f"--concurrency {concurrency}: expected 1 or more")
    wrong = [label for label in labels if not all(label.partition("="))]
    if wrong:
        raise ConfigError(
            f"--label {wrong[0]}: expected KEY=VALUE, e.g. pool=batch as in ray start --labels pool=batch"
        )
    return Placement(concurrency, {key: value for key, _, value in (label.partition("=") for label in labels)})


def _model(directory: Path | None, settings: Settings) -> tuple[Bundle, str]:
    if directory is not None:
        return Bundle.load(directory), "file"
    champion = find_champion(settings)
    return champion.bundle, champion.version
