"""Open-loop load at a constant rate, by the product's own load generator, with the benchmarks' figures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.results.figures import percentiles_ms
from ray_app.loadtest.arrival_schedule import Profile, arrivals
from ray_app.loadtest.generator import LoadPlan, generate
from ray_app.loadtest.http_client.target import Target
from ray_app.loadtest.samples import Samples

MEASURING = "measuring"
_CONNECTIONS = 256
_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Route(Target):
    """A load test target with another path than /predict, as other servers have."""

    path: str = "/predict"

    def post(self, body: bytes) -> bytes:
        """The bytes of a complete HTTP/1.1 request with this body."""
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


async def run_at_rate(
    target: Target, bodies: Sequence[bytes], rate: float, seconds: float, warm_up: float
) -> dict[str, object]:
    """Send requests at a constant rate and return figures: percentiles in ms from when each request was due.

    A request without an answer after 2 s is given up; what was not answered with 2xx counts with no less than that.
    `lost` is the share of requests that were not answered with 200, `late` the p99 of the generator's own delay in ms.
    """
    samples = Samples(arrivals(Profile.CONSTANT, rate, seconds, warm_up))
    marked = asyncio.get_running_loop().create_task(_mark(samples))
    run = await generate(LoadPlan(target, bodies, _CONNECTIONS, _TIMEOUT_S), samples, lambda *_: None)
    cpu_s = time.process_time() - await marked
    measured = run.samples.measured()
    answered = int((measured.outcome == 200).sum())
    asked = int((samples.due >= 0).sum())
    return {
        "figures": {
            **percentiles_ms(measured.judged(measured.latency).tolist()),
            "req/s": answered / max(seconds, run.seconds),
            "lost": 1 - answered / asked,
            "late": float(np.quantile(measured.lateness, 0.99)) * 1000 if len(measured.lateness) else 0.0,
        },
        "answers": answered,
        "errors": {kind: count for kind, count in measured.kinds().items() if kind != "2xx"},
        "cpu_s": cpu_s,
    }


async def _mark(samples: Samples) -> float:
    """Say when the first measured request is picked up; returns the CPU seconds used until then."""
    first = int(np.searchsorted(samples.due, 0.0))
    while np.isnan(samples.lateness[first]):
        await asyncio.sleep(0.005)
    print(MEASURING, flush=True)
    return time.process_time()
