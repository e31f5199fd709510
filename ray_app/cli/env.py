"""`rayscore env`: the environment in which Ray Serve is fast, as exports for a shell."""

from __future__ import annotations

import argparse
import shlex

from data.cli.terminal import say
from ray_app.environment.serve_environment import serve_environment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes: nothing."""
    parser.epilog = 'example, before `ray start` on every node: eval "$(rayscore env)"'


def run(args: argparse.Namespace) -> int:
    """Print the exports and return the exit code."""
    for name, value in serve_environment().items():
        say(f"export {name}={shlex.quote(value)}")
    return 0
