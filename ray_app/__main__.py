"""The command line of the serving side: demo, score, loadtest, env."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from data.cluster import cluster
from data.console import progress, run_cli
from data.dataset import stream
from data.parquet import ParquetSource, atomic_file, atomic_folder, open_source, parquet_files
from data.settings import Settings, load_settings
from ray_app import demo
from ray_app.batch import plan, score_chunk
from ray_app.champion import find_champion
from ray_app.environment import serve_environment
from ray_app.loadtest.command import add_command
from tune.bundle import Bundle

_EXAMPLES = """examples:
  serve run ray_app:graph                        serve the champion: gateway, feature fetch and model apart
  serve run ray_app:fused                        the same in one replica, for the lowest latency
  python -m ray_app demo                         all of it, from generated data to live predictions
  python -m ray_app score in.parquet out.parquet score a table with the champion
  python -m ray_app loadtest --rps 600           send requests at a fixed rate and judge the answers
  eval "$(python -m ray_app env)"                before `ray start`, on every node of a cluster

exit codes: 0 done, 2 could not run, 130 interrupted; `loadtest --help` has two more
"""


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.run is None:
        parser.print_help()
        return 0
    run: Callable[[argparse.Namespace], int] = args.run
    return run(args)


def _score(args: argparse.Namespace) -> int:
    settings = load_settings(use_case=args.use_case, model_alias=args.alias)
    source = open_source(args.input.absolute())
    bundle, version = _model(args.bundle, settings)
    out = args.output.absolute()
    if out.suffix != ".parquet":
        with atomic_folder(out) as folder:
            _score_into(folder, settings, bundle, version, source)
    else:
        with atomic_file(out) as file, TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as parts:
            _score_into(Path(parts), settings, bundle, version, source)
            _join(Path(parts), file)
    print(f"{args.output}: {source.rows:,} rows scored by {bundle.manifest.name} version {version}")
    return 0


def _score_into(folder: Path, settings: Settings, bundle: Bundle, version: str, source: ParquetSource) -> None:
    job = plan(settings, bundle, version, source, folder)
    with cluster(), progress("score", source.rows) as advance:
        for rows in stream(source.chunks, partial(score_chunk, job=job)):
            advance(rows)


def _join(parts: Path, file: Path) -> None:
    files = parquet_files(parts)
    with pq.ParquetWriter(file, pq.read_schema(files[0]), compression="zstd") as writer:
        for part in files:
            writer.write_table(pq.read_table(part))


def _model(directory: Path | None, settings: Settings) -> tuple[Bundle, str]:
    if directory is not None:
        return Bundle.load(directory), "file"
    found = find_champion(settings)
    return found.bundle, found.version


def _env(args: argparse.Namespace) -> int:
    for name, value in serve_environment().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _demo(args: argparse.Namespace) -> int:
    return demo.run(load_settings(), demo.Plan(rows=args.rows, trials=args.trials, once=args.once))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ray_app",
        description="Serve the champion model, score tables with it, or put it under load.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    score = commands.add_parser(
        "score",
        help="score a Parquet file or folder with the champion",
        description="Writes the probability, the label and the model's version for each row, with the row's key, "
        "entity and event time carried along. Online features that the table lacks are read from the store.",
    )
    score.add_argument("input", type=Path, metavar="IN", help="Parquet file or folder")
    score.add_argument("output", type=Path, metavar="OUT", help="file (ends in .parquet) or folder to write")
    score.add_argument("--use-case", help="name or file of the use case (default: RAYSCORE_USE_CASE)")
    score.add_argument("--alias", help="registry alias to score with (default: RAYSCORE_MODEL_ALIAS, champion)")
    score.add_argument(
        "--bundle", type=Path, metavar="DIR", help="score with a bundle's folder instead of the registry"
    )
    score.set_defaults(run=_score)

    show = commands.add_parser("demo", help="from generated data to live predictions, then keep serving")
    show.add_argument("--rows", type=int, default=100_000, help="transactions to generate (default: %(default)s)")
    show.add_argument("--trials", type=int, default=20, help="trials of the search (default: %(default)s)")
    show.add_argument("--once", action="store_true", help="stop after the predictions instead of serving on")
    show.set_defaults(run=_demo)

    add_command(commands)

    env = commands.add_parser("env", help="print the environment in which Ray Serve is fast, for `ray start`")
    env.set_defaults(run=_env)
    return parser


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
