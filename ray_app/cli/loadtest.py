"""`rayscore loadtest`: the options, the live line, the exit code."""

from __future__ import annotations

import argparse
import math
import resource
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from data.cli.terminal import EXIT_INTERRUPTED, err
from data.errors import ConfigError
from ray_app.loadtest.arrival_schedule import Profile, arrivals
from ray_app.loadtest.generator import LoadPlan, Run, generate
from ray_app.loadtest.generator_ceiling import ON_TIME_S, Level, calibrate
from ray_app.loadtest.http_client.event_loop import run_on_time
from ray_app.loadtest.http_client.target import parse_url
from ray_app.loadtest.percentiles import percentiles
from ray_app.loadtest.plot import write_plot
from ray_app.loadtest.recording import recorded_sources, require_consent
from ray_app.loadtest.report import Result, Setup, markdown, write_json, write_markdown
from ray_app.loadtest.request_bodies import bodies
from ray_app.loadtest.samples import Samples, kind_of
from ray_app.loadtest.slo import parse_slo
from ray_app.loadtest.summary import figures, seconds
from ray_app.loadtest.verdict import client_limit, judge

EXIT_MISSED = 1
EXIT_CLIENT = 3
_MAX_REQUESTS = 20_000_000
_SPARE_FILES = 64
_CALIBRATION_BODY = b'{"echo": "' + b"x" * 180 + b'"}'

_EXAMPLES = """examples:
  rayscore loadtest --rps 600 --duration 30 --slo p99=5ms,errors=0
  rayscore loadtest --rps 2000 --duration 60 --profile step --dashboard http://127.0.0.1:8265 --out var/step
  rayscore loadtest --rps 300 --mix var/demo/transactions_100000.parquet
  rayscore loadtest --calibrate

exit codes: 0 SLO held or none asked, 1 SLO missed, 2 could not run, 3 the generator was the limit, 130 interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Sends predictions to a running service at an asked rate, whether or not answers come, and "
        "measures each from the time at which it was due. Sends to the named addresses only."
    )
    parser.epilog = _EXAMPLES
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8000", help="the service (default: %(default)s)")
    add("--rps", type=_positive, default=100.0, metavar="N", help="requests a second (default: %(default)g)")
    add("--duration", type=_positive, default=30.0, metavar="S", help="s to measure (default: %(default)g)")
    add("--warmup", type=_not_negative, default=3.0, metavar="S", help="s before that, not counted (%(default)g)")
    add("--profile", choices=[profile.value for profile in Profile], default="constant", help="default: %(default)s")
    add("--connections", type=_count, default=256, metavar="N", help="most connections (default: %(default)s)")
    add("--timeout", type=_positive, default=5.0, metavar="S", help="give a request up after (default: %(default)g)")
    add("--mix", type=Path, metavar="FILE", help="bodies: JSON lines, or Parquet (default: the service's example)")
    add("--record", action="store_true", help="also where the service stores the rows that it scores as events")
    add("--slo", metavar="TERMS", help="what to judge by, e.g. p99=5ms,errors=0")
    add("--out", type=Path, metavar="DIR", help="write report.json, report.md and report.png there")
    add("--dashboard", metavar="URL", help="Ray's dashboard, for replicas over time, e.g. http://127.0.0.1:8265")
    add("--calibrate", action="store_true", help="measure the generator's own ceiling instead")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code.

    Raises:
        ConfigError: an option is wrong, or the service stores what it scores and `--record` is not given.
        DataError: the request bodies cannot be read, or the report cannot be written.
        Unreachable: the service does not answer.
    """
    _check(args)
    if args.calibrate:
        return _calibrate(args.connections)
    slo = parse_slo(args.slo) if args.slo else ()
    target = parse_url(args.url)
    dashboard = parse_url(args.dashboard) if args.dashboard else None
    document = target.document()
    recorded = recorded_sources(document)
    require_consent(recorded, target.url, args.record)
    request_bodies = bodies(document, args.mix)
    if recorded:
        err.print(f"each row is stored as an event of {', '.join(recorded)}", markup=False, style="yellow")
    samples = Samples(arrivals(Profile(args.profile), args.rps, args.duration, args.warmup))
    setup = _setup(args, target.url, len(request_bodies))
    plan = LoadPlan(target, request_bodies, args.connections, args.timeout, dashboard)
    load_run = run_on_time(generate(plan, samples, show_second))
    summary = figures(load_run, args.duration)
    if limit := client_limit(summary, slo):
        err.print(f"no report: the generator was the limit, not the service: {limit}", markup=False, style="red")
        return EXIT_CLIENT
    verdict = judge(summary, slo)
    result = Result(setup, summary, verdict, seconds(load_run), load_run.replicas, load_run.interrupted)
    _publish(result, load_run, args.out)
    if load_run.interrupted:
        return EXIT_INTERRUPTED
    return 0 if result.held else EXIT_MISSED


def _setup(args: argparse.Namespace, url: str, count: int) -> Setup:
    started = datetime.now(timezone.utc).isoformat(" ", "seconds")
    return Setup(
        url, args.profile, args.rps, args.duration, args.warmup, args.connections, args.timeout, count, started
    )


def show_second(now: float, samples: Samples, ended: Sequence[int]) -> None:
    """Write the progress line to stderr: rates, latency and errors by kind of the last second.

    Args:
        now: time in s from the start of measuring.
        samples: all requests of the run.
        ended: indices of the requests that ended in the last second.
    """
    indices = np.array(ended, dtype=int)
    outcomes = samples.outcome[indices]
    asked = int(((samples.due > now - 1) & (samples.due <= now)).sum())
    good = outcomes // 100 == 2
    times = percentiles(samples.latency[indices][good])
    errors = Counter(kind_of(outcome) for outcome in outcomes[~good].tolist())
    text = ", ".join(f"{count:,} {kind}" for kind, count in errors.most_common()) or "no errors"
    name = "warm-up" if now < 0.5 else f"{now:5.0f} s"
    latency = "no answer" if not good.any() else f"p50 {times['p50'] * 1e3:.2f} ms, p99 {times['p99'] * 1e3:.2f} ms"
    # Not with rich: it takes ms, during which the event loop sends no request.
    sys.stderr.write(f"{name}: {int(good.sum()):,} of {asked:,} requests/s, {latency}, {text}\n")


def _publish(result: Result, run: Run, out: Path | None) -> None:
    sys.stdout.write(markdown(result))
    if out is None:
        return
    measured = run.samples.measured()
    write_json(out / "report.json", result)
    write_markdown(out / "report.md", result)
    write_plot(out / "report.png", result, measured.judged(measured.latency))
    err.print(f"written: {out}/report.json, report.md, report.png", markup=False)


def _calibrate(connections: int) -> int:
    ceiling = calibrate(_CALIBRATION_BODY, connections, _show_level)
    if not ceiling:
        err.print(f"no rate was kept with a lateness (p99) under {ON_TIME_S * 1e3:g} ms: this machine is busy")
        return EXIT_CLIENT
    sys.stdout.write(f"ceiling: {ceiling:,.0f} requests/s with a lateness (p99) under {ON_TIME_S * 1e3:g} ms\n")
    return 0


def _show_level(level: Level) -> None:
    sys.stderr.write(
        f"{level.rps:8,.0f} asked, {level.achieved_rps:8,.0f} achieved, "
        f"lateness p99 {level.lateness_p99 * 1e3:.2f} ms, latency p99 {level.latency_p99 * 1e3:.2f} ms, "
        f"{level.cpu_share:.0%} of a CPU: {'kept' if level.kept else 'not kept'}\n"
    )


def _check(args: argparse.Namespace) -> None:
    if args.rps * (args.duration + args.warmup) > _MAX_REQUESTS:
        raise ConfigError(f"--rps {args.rps:g} for {args.duration:g} s is more than {_MAX_REQUESTS:,} requests")
    if args.rps * args.duration < 1:
        raise ConfigError(f"--rps {args.rps:g} for {args.duration:g} s is less than one request")
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_FILES
    if args.connections > files:
        raise ConfigError(f"--connections {args.connections}: this shell allows {files}; raise it with `ulimit -n`")


def _positive(text: str) -> float:
    value = float(text)
    if not (0 < value < math.inf):
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0")
    return value


def _not_negative(text: str) -> float:
    return 0.0 if float(text) == 0 else _positive(text)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number above 0")
    return value
