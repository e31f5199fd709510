"""Benchmark of serving windows: a model with 12 windows that records its rows, beside the same model without windows.

To the second one the values of the windows are sent. Both services are loaded in turn, while the other one is stopped
(SIGSTOP). Then two gateways of the first: how soon an event that one has answered is seen at the other, and what swipes
of one card see, one after the other and at once. About 5 minutes with the defaults, over SQLite, or with `--cassandra`
over a node that is started on this machine (Java 11 or 17 and Maven).
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.peers.environments import FOLDER
from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, medians, percentiles_ms, short, write_section
from benchmarks.results.serving_report import OTHERS, Load, serving_cpu
from benchmarks.servers.kinds import FUSED, GRAPH, KINDS, Kind
from benchmarks.servers.processes import paused
from benchmarks.servers.running import running
from benchmarks.serving import measure
from benchmarks.workloads import window_checks, windows
from benchmarks.workloads.window_checks import Seen
from benchmarks.workloads.windows import WindowWorkload
from data.cli.terminal import err, run_cli
from data.settings import Settings
from tests.support.services.cassandra import Node

WINDOWS, SENT = "12 windows", "values sent"
_ONE = Load(False, 1)
_PACKAGES = ("ray", "onnxruntime", "msgpack", "cassandra-driver")
Samples = dict[tuple[str, str, Load], list[dict[str, float]]]
"""Figures of each round by kind of service, model and load."""


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    # Ended by SIGTERM, it ends the services that it has started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as folder, ExitStack() as stack:
        workload = windows.prepare(Path(folder))
        settings = Settings(store="sqlite", var_dir=workload.computed.folder)
        variables: dict[str, str] = {}
        if args.cassandra:
            node = Node(Path(folder) / "node", optimizing=True).start()
            stack.callback(node.kill)
            settings = node.settings()
            # A slow answer is to be measured as such, not answered without its windows.
            variables = {
                "RAYSCORE_STORE": "cassandra",
                "RAYSCORE_CASSANDRA_HOSTS": node.address,
                "RAYSCORE_CASSANDRA_READ_TIMEOUT_MS": "1000",
                "RAYSCORE_FEATURE_TIMEOUT_MS": "3000",
            }
        workload.fill(settings)
        samples: Samples = {}
        for name in args.services:
            _compare(replace(KINDS[name], variables=variables), workload, args, samples)
        seen = _between_gateways(variables, workload, args)
    text = _report(args, argv, settings.store, samples, seen)
    print(text, flush=True)
    if args.out:
        write_section(args.out, f"benchmarks.window_serving.{settings.store}", text)
    return 0


def _compare(kind: Kind, workload: WindowWorkload, args: argparse.Namespace, samples: Samples) -> None:
    """Load both models in turn, each round the other one first, after a check that they answer the same."""
    with ExitStack() as stack:
        servers = {
            WINDOWS: (stack.enter_context(running(kind, workload.computed, 1, FOLDER)), workload.computed),
            SENT: (stack.enter_context(running(kind, workload.sent, 1, FOLDER)), workload.sent),
        }
        window_checks.check_same_answers(servers[WINDOWS][0], servers[SENT][0], workload)
        for number in range(args.rounds):
            for load in (_ONE, Load(True, args.rate)):
                for model in (WINDOWS, SENT) if number % 2 == 0 else (SENT, WINDOWS):
                    (other,) = servers.keys() - {model}
                    with paused(servers[other][0].pids):
                        figures = measure(*servers[model], load, args.seconds, args.warm_up)
                    samples.setdefault((kind.name, model, load), []).append({**figures, "CPU": serving_cpu(figures)})
                    _say(kind, model, load, figures)


def _say(kind: Kind, model: str, load: Load, figures: dict[str, float]) -> None:
    parts = ", ".join(f"{key[4:]} {value:.3f}" for key, value in sorted(figures.items()) if key.startswith("cpu "))
    err.print(
        f"{kind.name}, {model} at {load}: p50 {figures['p50']:.3f} ms, p99 {figures['p99']:.2f} ms, "
        f"CPU {serving_cpu(figures):.3f} ms ({parts}), others {figures[OTHERS]:.0%}",
        markup=False,
    )


def _between_gateways(variables: dict[str, str], workload: WindowWorkload, args: argparse.Namespace) -> Seen:
    """What two gateways see of each other's events, with one feature fetch and one model."""
    counts = {"RAYSCORE_GATEWAY_MIN_REPLICAS": "2", "RAYSCORE_GATEWAY_MAX_REPLICAS": "2"}
    with running(replace(KINDS[GRAPH], variables={**variables, **counts}), workload.computed, 1, FOLDER) as server:
        return window_checks.watch(server, args.trials)


def _report(args: argparse.Namespace, argv: Sequence[str], store: str, samples: Samples, seen: Seen) -> str:
    """Render the section of `docs/performance.md`."""
    parts = [f"## Serving windows: {store}", machine.describe("benchmarks.window_serving", argv, _PACKAGES)]
    if samples:
        header = ["service", "load", "figure", SENT, WINDOWS, "difference"]
        parts += [_compared(args, samples), markdown_table(header, _load_rows(samples))]
    return "\n\n".join((*parts, markdown_table(["two gateways", "seen"], _seen_rows(seen))))


def _compared(args: argparse.Namespace, samples: Samples) -> str:
    others = max(figures[OTHERS] for rounds in samples.values() for figures in rounds)
    return (
        f"12 windows over two entities of {windows.OF_EACH} events each and `record`, beside the same model to which "
        "the values are sent: both services in turn, the other one stopped meanwhile, "
        f"{args.rounds} rounds of {args.seconds:g} s a load, in turn the one and the other first. A number of "
        "connections is a closed loop, a rate an open one, in which latency counts from when a request was due. "
        "*CPU*: of what serves, ms a request. Latencies in ms; medians of the rounds. Other programs used up to "
        f"{others:.0%} of the machine."
    )


def _load_rows(samples: Samples) -> list[list[str]]:
    rows = []
    for name, load in dict.fromkeys((name, load) for name, _, load in samples):
        sent, computed = (medians(samples[name, model, load]) for model in (SENT, WINDOWS))
        for figure in ("p50", "p99", "CPU"):
            pair = sent[figure], computed[figure]
            rows.append([name, str(load), figure, *map(short, pair), f"{pair[1] - pair[0]:+.3f}"])
    return rows


def _seen_rows(seen: Seen) -> list[list[str]]:
    waits = percentiles_ms(seen.seconds)
    return [
        [f"from an event's answer to its being seen at the other, {each}, ms", short(waits[each])]
        for each in ("p50", "p99")
    ] + [
        ["seen by the first request after its answer", f"{seen.at_first:,} of {len(seen.seconds):,}"],
        ["50 swipes of a card one after the other saw", seen.swipes],
        ["50 swipes at once: lost, different numbers seen", f"{seen.lost}, {seen.numbers}"],
    ]


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.window_serving", description=__doc__)
    parser.add_argument("--cassandra", action="store_true", help="a Cassandra node in place of SQLite")
    parser.add_argument("--services", type=_services, default=[GRAPH, FUSED], help=f"of {GRAPH},{FUSED}; none: ''")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured time of each load (default: %(default)g)")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds of load before that (default: %(default)g)")
    parser.add_argument("--rate", type=int, default=300, help="requests a second of the open loop")
    parser.add_argument("--trials", type=int, default=500, help="events that another gateway has to see")
    parser.add_argument("--out", type=Path, help="Markdown file to write a section into, e.g. docs/performance.md")
    return parser.parse_args(argv)


def _services(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := set(names) - {GRAPH, FUSED}:
        raise argparse.ArgumentTypeError(f"no service {', '.join(sorted(unknown))}; there are {GRAPH}, {FUSED}")
    return names


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
