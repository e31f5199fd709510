"""Scrapes: whichever gateway is reached answers for all replicas, and never with an error."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterable, Mapping

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from data.errors import ControlUnavailable
from ray_app.monitoring.scrape import OwnMetrics, ReportedMetrics, Scrape
from ray_app.monitoring.text_format import merged, packed, rendered
from tests.support.serving.metrics import GET, every_metric, gateway_metrics, samples
from tests.support.serving.predict_app import run, until


class Counting(Collector):
    """One replica's counter and gauge."""

    def __init__(self, replica: str, value: float = 0) -> None:
        self.replica = replica
        self.value = value
        self.collected = 0

    def collect(self) -> Iterable[Metric]:
        """What it has now."""
        self.collected += 1
        counter = CounterMetricFamily("app_requests", "Requests.", labels=["replica"])
        counter.add_metric([self.replica], self.value)
        return [counter, GaugeMetricFamily("app_up", "Up.", value=1)] if self.replica == "c" else [counter]


def registry(*boards: Collector) -> CollectorRegistry:
    """A registry of these."""
    made = CollectorRegistry()
    for board in boards:
        made.register(board)
    return made


class Gateways:
    """Two gateways and a Control that remembers what it was told, as `ControlPlane.scrape` does."""

    def __init__(self) -> None:
        self.boards = {name: Counting(name) for name in ("a", "b")}
        self.pages = {name: OwnMetrics("Gateway", registry(board)) for name, board in self.boards.items()}
        self.told: dict[str, ReportedMetrics] = {}
        self.silent = False

    async def scrape(self, name: str) -> dict[tuple[str, str], float]:
        """Scrape through a gateway; samples by name and replica."""

        async def ask() -> Mapping[str, ReportedMetrics]:
            if self.silent:
                raise ControlUnavailable("gone")
            self.told[name] = self.pages[name]()
            return dict(self.told)

        reply = await Scrape(name, self.pages[name], ("Gateway", "Model"), ask).answer(GET)
        assert reply.status == 200
        return parsed(reply.body.decode())


def parsed(page: str) -> dict[tuple[str, str], float]:
    """Samples by name and labels; fails when a series or a family is there twice."""
    heads = [line for line in page.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))
    samples(page)
    lines = [line.rpartition(" ") for line in page.splitlines() if not line.startswith("#")]
    found = {series: float(value) for series, _, value in lines}
    assert len(found) == len(lines)
    return {(series.partition("{")[0], series): value for series, value in found.items()}


def value(found: Mapping[tuple[str, str], float], series: str) -> float:
    """The value of one series."""
    return found[series.partition("{")[0], series]


def test_a_page_is_what_prometheus_makes_of_a_registry():
    """A rendered page has the very lines that prometheus_client writes, odd label values included."""
    metrics = gateway_metrics()
    odd = Counter("odd", 'with "quotes" and \\', ["label"], registry=metrics.registry)
    odd.labels('a "quoted" \\ word\nand a line').inc()
    metrics.request(200, 0.004)

    async def page() -> bytes:
        return await merged([packed(await rendered(metrics.registry))])

    def lines(text: str) -> set[str]:
        # CPU and memory are others a moment later.
        return {line for line in text.splitlines() if "_replica_" not in line}

    assert lines(run(page()).decode()) == lines(generate_latest(metrics.registry).decode())


def test_a_scrape_has_every_replica_whichever_gateway_is_reached():
    """The series of both gateways are on the page of either, each once, with the number of replicas heard."""

    async def scenario() -> None:
        world = Gateways()
        world.boards["a"].value, world.boards["b"].value = 3, 5
        await world.scrape("a")
        for name in ("b", "a"):
            found = await world.scrape(name)
            assert value(found, 'app_requests_total{replica="a"}') == 3
            assert value(found, 'app_requests_total{replica="b"}') == 5
            assert value(found, 'rayscore_scrape_replicas{deployment="Gateway"}') == 2
            assert value(found, 'rayscore_scrape_replicas{deployment="Model"}') == 0
            assert value(found, "rayscore_scrape_complete") == 1
            first = next(series for _, series in found if "app_requests" in series)
            assert first == f'app_requests_total{{replica="{name}"}}', "the gateway that answers comes first"

    run(scenario())


def test_no_counter_steps_back_from_one_gateway_to_the_other():
    """A counter read fresh through its own gateway is not lower a moment later through the other one."""

    async def scenario() -> None:
        world = Gateways()
        seen = 0.0
        for turn in range(20):
            world.boards["a"].value += 7
            found = await world.scrape("ab"[turn % 2])
            if ("app_requests_total", 'app_requests_total{replica="a"}') in found:
                now = value(found, 'app_requests_total{replica="a"}')
                assert now >= seen
                seen = now
        assert seen >= 7 * 18

    run(scenario())


def test_a_silent_control_leaves_the_gateway_that_is_reached():
    """Without Control the answer is still 200, with the gateway's own series and a gauge that says so."""

    async def scenario() -> None:
        world = Gateways()
        await world.scrape("b")
        world.silent = True
        found = await world.scrape("a")
        assert value(found, "rayscore_scrape_complete") == 0
        assert value(found, 'rayscore_scrape_replicas{deployment="Gateway"}') == 1
        assert not [series for _, series in found if '"b"' in series]

    run(scenario())


def test_an_application_without_control_is_scraped():
    """Where there is no Control a gateway answers for itself."""

    async def scenario() -> None:
        reply = await Scrape("a", OwnMetrics("Gateway", registry(Counting("a", 2))), ("Gateway",), None).answer(GET)
        assert value(parsed(reply.body.decode()), 'app_requests_total{replica="a"}') == 2

    run(scenario())


def test_a_replica_without_a_page_yet_is_counted():
    """A replica that has just started counts as heard, and adds no series."""

    async def ask() -> Mapping[str, ReportedMetrics]:
        return {"m": ReportedMetrics("Model", b"")}

    async def scenario() -> None:
        reply = await Scrape("a", OwnMetrics("Gateway", registry(Counting("a"))), ("Gateway", "Model"), ask).answer(GET)
        found = parsed(reply.body.decode())
        assert value(found, 'rayscore_scrape_replicas{deployment="Model"}') == 1

    run(scenario())


def test_scrapes_that_come_together_cost_one():
    """A flood of scrapes makes one page at a time."""

    async def scenario() -> None:
        board = Counting("a")
        scrape = Scrape("a", OwnMetrics("Gateway", registry(board)), ("Gateway",), None)
        before = board.collected
        replies = await asyncio.gather(*(scrape.answer(GET) for _ in range(100)))
        assert len({reply.body for reply in replies}) == 1
        assert board.collected - before == 1

    run(scenario())


def test_a_scraper_that_leaves_takes_nobody_along():
    """One caller that is cancelled does not end the scrape that others wait for."""

    async def scenario() -> None:
        gate = asyncio.Event()

        async def ask() -> Mapping[str, ReportedMetrics]:
            await gate.wait()
            return {}

        scrape = Scrape("a", OwnMetrics("Gateway", registry(Counting("a"))), ("Gateway",), ask)
        leaves, stays = (asyncio.ensure_future(scrape.answer(GET)) for _ in range(2))
        await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.wait([leaves])
        gate.set()
        assert (await stays).status == 200
        assert leaves.cancelled()

    run(scenario())


def test_a_scrape_carries_nobodys_context():
    """What is asked of Control does not hang on the request that happened to begin the scrape."""
    begun_by = contextvars.ContextVar("begun_by", default="nobody")

    async def ask() -> Mapping[str, ReportedMetrics]:
        seen.append(begun_by.get())
        return {}

    async def scenario() -> None:
        begun_by.set("a caller")
        await Scrape("a", OwnMetrics("Gateway", registry(Counting("a"))), ("Gateway",), ask).answer(GET)

    seen: list[str] = []
    run(scenario())
    assert seen == ["nobody"]


def test_a_report_carries_the_last_page_and_renews_it_in_the_background():
    """A page for a report costs nothing: the last one is given, and a new one made when it is due, not sooner."""

    async def scenario() -> None:
        board = Counting("m")
        lazy, eager = (
            OwnMetrics("Model", registry(board), every_s=3600),
            OwnMetrics("Model", registry(board), every_s=0),
        )
        assert lazy() == ReportedMetrics("Model", b"")
        await until(lambda: bool(lazy().page))
        collected = board.collected
        board.value = 9
        pages = {lazy().page for _ in range(10)}
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(pages) == 1
        assert board.collected == collected
        await until(lambda: bool(eager().page))
        before = eager().page
        board.value = 10
        await until(lambda: eager().page != before)
        assert 'app_requests_total{replica="m"} 10.0' in (await merged([eager().page])).decode()

    run(scenario())


def test_rendering_gives_way():
    """While a large page is made, the loop goes on answering: no more than a few dozen lines are made in one go."""

    class Large(Collector):
        def collect(self) -> Iterable[Metric]:
            family = GaugeMetricFamily("large", "Many.", labels=["n"])
            for n in range(1000):
                family.add_metric([str(n)], n)
            return [family]

    async def scenario() -> int:
        turns = 0
        making = asyncio.ensure_future(rendered(Large()))
        while not making.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert run(scenario()) > 30


def test_labels_take_few_values():
    """Every label of every metric is one of those that are bounded: no entity, request id or text of a client."""
    allowed = {
        "code",
        "deployment",
        "event",
        "found",
        "le",
        "mode",
        "model",
        "objective",
        "outcome",
        "reason",
        "replica",
        "role",
        "source",
        "stage",
        "state",
        "version",
        "way",
    }
    labels = {label for _, labels in samples(every_metric()) for label in labels.split(",") if label}
    assert {label.partition("=")[0] for label in labels} <= allowed


@pytest.mark.parametrize("times", [1, 3])
def test_merging_keeps_the_head_of_a_family_once(times: int):
    """However many replicas have a family, its HELP and TYPE are there once, and before its series."""

    async def scenario() -> list[str]:
        pages = [packed(await rendered(Counting(str(n)))) for n in range(times)]
        return (await merged(pages)).decode().splitlines()

    lines = run(scenario())
    assert lines[:2] == ["# HELP app_requests_total Requests.", "# TYPE app_requests_total counter"]
    assert len(lines) == 2 + times
