"""Serve one bundle with the product's graph, as `serve run ray_app:graph` does, but without a registry.

Runs until its standard input ends, so that it never outlives the benchmark that started it. The environment of
the fast path must be set by whoever starts it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import ray
from ray import serve

from data.settings import load_settings
from ray_app.deployments.application import start_local
from ray_app.deployments.graph_builder import build
from ray_app.deployments.replica_spec import make_replica_spec
from tune.registry.bundle import Bundle
from tune.registry.traffic_rules import TrafficRules


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers.ray_server", description=__doc__)
    parser.add_argument("kind", choices=("graph", "fused"))
    parser.add_argument("bundle", type=Path)
    args = parser.parse_args(argv)
    settings = load_settings()
    bundle = Bundle.load(args.bundle)
    try:
        start_local(settings)
        rules = TrafficRules(use_case=bundle.manifest.name, champion="1").after(None)
        spec = make_replica_spec(settings, rules, {"1": bundle})
        serve.run(build(spec, fused=args.kind == "fused"), blocking=False)
        sys.stdin.read()
    finally:
        serve.shutdown()
        ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
