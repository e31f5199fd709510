"""`rayscore demo`: the whole way in one command."""

from __future__ import annotations

import argparse

from data.cli.options import positive
from data.settings import load_settings
from data.sources.synthetic.generators import GENERATORS
from ray_app.demo.demo import DemoOptions
from ray_app.demo.demo import run as run_demo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("--use-case", choices=GENERATORS, help="whose table is generated and learned (default: card_fraud)")
    add("--rows", type=positive, help="rows to generate (default: 100000 with windows over events, else 20000)")
    add("--trials", type=int, default=20, help="trials of the search (default: %(default)s)")
    add("--once", action="store_true", help="stop after the proof instead of serving on")


def run(args: argparse.Namespace) -> int:
    """Run the demo and return the exit code.

    Raises:
        ConfigError: the settings name a use case whose table cannot be generated.
        DemoFailed: a step failed, or the port is taken.
    """
    settings = load_settings() if args.use_case is None else load_settings(use_case=args.use_case)
    return run_demo(settings, DemoOptions(rows=args.rows, trials=args.trials, once=args.once))
