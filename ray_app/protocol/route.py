"""A page or an action beside /predict that is answered by code: what it is told, and what it replies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple


class RouteRequest(NamedTuple):
    """One request. `source` is the address that it says it comes from; `body` is whole, and empty for a GET."""

    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes
    source: str


class RouteReply(NamedTuple):
    """Its answer."""

    status: int
    content_type: bytes
    body: bytes
    headers: Mapping[str, str] = {}


class Route(NamedTuple):
    """Who answers, and by which methods; raises a RayscoreError for problem details."""

    methods: tuple[str, ...]
    answer: Callable[[RouteRequest], Awaitable[RouteReply]]
