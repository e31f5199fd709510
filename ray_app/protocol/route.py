"""A route beside /predict whose answers are computed: its request, its reply, and its handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple


class RouteRequest(NamedTuple):
    """One request. `source` is the client address by its headers; `body` is complete, and empty for a GET."""

    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes
    source: str


class RouteReply(NamedTuple):
    """Status, content type, body and further headers of an answer."""

    status: int
    content_type: bytes
    body: bytes
    headers: Mapping[str, str] = {}


class Route(NamedTuple):
    """The methods of a route and its handler, whose RayscoreError is answered as problem details.

    A body of more than `body_limit` bytes is refused.
    """

    methods: tuple[str, ...]
    answer: Callable[[RouteRequest], Awaitable[RouteReply]]
    body_limit: int = 65_536
