"""The command line of the serving side: demo, score, loadtest, env."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence

from data.cli.terminal import run_cli
from data.settings import load_settings
from ray_app import demo
from ray_app.batch import command
from ray_app.environment.serve_environment import serve_environment
from ray_app.loadtest import command as loadtest

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


def _env(args: argparse.Namespace) -> int:
    for name, value in serve_environment().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _demo(args: argparse.Namespace) -> int:
    return demo.run(load_settings(), demo.DemoOptions(rows=args.rows, trials=args.trials, once=args.once))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ray_app",
        description="Serve the champion model, score tables with it, or put it under load.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    command.add_command(commands)

    show = commands.add_parser("demo", help="from generated data to live predictions, then keep serving")
    show.add_argument("--rows", type=int, default=100_000, help="transactions to generate (default: %(default)s)")
    show.add_argument("--trials", type=int, default=20, help="trials of the search (default: %(default)s)")
    show.add_argument("--once", action="store_true", help="stop after the predictions instead of serving on")
    show.set_defaults(run=_demo)

    loadtest.add_command(commands)

    env = commands.add_parser("env", help="print the environment in which Ray Serve is fast, for `ray start`")
    env.set_defaults(run=_env)
    return parser


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
