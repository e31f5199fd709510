"""Prometheus' text format: render the metrics of one replica, compress them, merge those of several replicas.

prometheus_client renders all metrics in one call. Here they are rendered on the event loop that also answers requests,
so rendering yields to it after every few lines.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable

import msgpack
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

CONTENT_TYPE = CONTENT_TYPE_LATEST

Page = dict[str, list[str]]
"""Rendered metrics: by family name, as in its TYPE line, the HELP and the TYPE line, then one line a series."""

_LINES_AT_ONCE = 32
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


async def rendered(collector: Collector) -> Page:
    """Render the current metrics of a collector or a registry."""
    page: Page = {}
    for family in collector.collect():
        lines = _begun(page, family)
        for count, sample in enumerate(family.samples, 1):
            lines.append(_line(sample))
            if count % _LINES_AT_ONCE == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
    return page


def packed(page: Page) -> bytes:
    """Serialize and compress a page, to about a sixth of its size."""
    return zlib.compress(msgpack.packb(page) or b"", 1)


async def merged(pages: Iterable[bytes]) -> bytes:
    """Merge packed pages into one text in Prometheus' format.

    Each family has one head, and the series of all pages in the order of the pages: the format forbids a second head.
    """
    whole: Page = {}
    for page in pages:
        for name, lines in msgpack.unpackb(zlib.decompress(page)).items():
            family = whole.setdefault(name, lines)
            if family is not lines:
                family += lines[2:]
        await asyncio.sleep(0)
    return "".join(["".join(lines) for lines in whole.values()]).encode()


def _begun(page: Page, family: Metric) -> list[str]:
    """The lines of a family so far: at first its HELP and TYPE lines."""
    name = family.name + ("_total" if family.type == "counter" else "")
    if name not in page:
        text = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
        page[name] = [f"# HELP {name} {text}\n", f"# TYPE {name} {family.type}\n"]
    return page[name]


def _line(sample: Sample) -> str:
    labels = ",".join([f'{name}="{value.translate(_ESCAPED)}"' for name, value in sorted(sample.labels.items())])
    return f"{sample.name}{'{' + labels + '}' if labels else ''} {floatToGoString(sample.value)}\n"
