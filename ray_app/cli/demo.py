"""`rayscore demo`: the whole way in one command."""

from __future__ import annotations

import argparse

from data.settings import load_settings
from ray_app.demo.demo import DemoOptions
from ray_app.demo.demo import run as run_demo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("--rows", type=int, default=100_000, help="transactions to generate (default: %(default)s)")
    add("--trials", type=int, default=20, help="trials of the search (default: %(default)s)")
    add("--once", action="store_true", help="stop after the proof instead of serving on")


def run(args: argparse.Namespace) -> int:
    """Run the demo and return the exit code.

    Raises:
        ConfigError: the settings name another use case than the one that can be generated.
        DemoFailed: a step failed, or the port is taken.
    """
    return run_demo(load_settings(), DemoOptions(rows=args.rows, trials=args.trials, once=args.once))
