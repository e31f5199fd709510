"""Pages of metrics in Prometheus' text format: made a few lines at a time, packed to travel, merged into one.

A page is made on the event loop that answers requests, so it gives way after every few lines.
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
"""By family, as TYPE names it: its two head lines, then the lines of its series."""

_SLICE = 32
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


async def rendered(collector: Collector) -> Page:
    """The page of what a collector, or a registry of them, has now."""
    page: Page = {}
    for family in collector.collect():
        lines = _begun(page, family)
        for at, sample in enumerate(family.samples, 1):
            lines.append(_line(sample))
            if at % _SLICE == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
    return page


def packed(page: Page) -> bytes:
    """A page as it travels: a sixth of its size."""
    return zlib.compress(msgpack.packb(page) or b"", 1)


async def merged(pages: Iterable[bytes]) -> bytes:
    """Packed pages as one text: each family once, with its series from all pages, in the order of the pages."""
    whole: Page = {}
    for each in pages:
        for name, lines in msgpack.unpackb(zlib.decompress(each)).items():
            known = whole.setdefault(name, lines)
            if known is not lines:
                known += lines[2:]
        await asyncio.sleep(0)
    return "".join(["".join(lines) for lines in whole.values()]).encode()


def _begun(page: Page, family: Metric) -> list[str]:
    """The lines of a family, at first its head alone."""
    name = family.name + ("_total" if family.type == "counter" else "")
    if name not in page:
        text = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
        page[name] = [f"# HELP {name} {text}\n", f"# TYPE {name} {family.type}\n"]
    return page[name]


def _line(sample: Sample) -> str:
    labels = ",".join([f'{name}="{value.translate(_ESCAPED)}"' for name, value in sorted(sample.labels.items())])
    return f"{sample.name}{'{' + labels + '}' if labels else ''} {floatToGoString(sample.value)}\n"
