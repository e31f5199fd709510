"""What HAProxy, the front door, is told beyond what Ray's template of its configuration says.

A gateway is one event loop: the more requests it holds, the longer each takes, and to refuse one costs it half of
an answer. So it is HAProxy that holds back what a gateway cannot take yet, and refuses in microseconds what would wait
too long. It also keeps slow senders and idle connections away from the gateways.

Ray's template has no variables for most of this. But it copies two variables into the text unchanged: the balance
algorithm into the section `defaults`, the log target into `global`. The lines are added there.
"""

from __future__ import annotations

import json

PER_GATEWAY = 128
"""Requests that one gateway has at once. A feature fetch of 200 ms still leaves it 640 requests a second."""
QUEUE_MS = 25
"""Time that a request may wait at HAProxy for a gateway, in milliseconds, before it is refused with 503."""
REQUEST_S = 10
"""Time that a request may take to arrive whole, in seconds, before it is refused with 408."""
CONNECTIONS = 16_384
"""Most clients connected at once; further ones wait to be let in."""

ATTEMPT = "x-attempt-id"
"""Header that HAProxy gives a request, the same one when it sends it to a second gateway."""


def _problem(status: int, title: str, detail: str, *header: str) -> str:
    body = json.dumps(
        {"type": "about:blank", "title": title, "status": status, "detail": detail}, separators=(",", ":")
    )
    quoted = '"' + body.replace('"', '\\"') + '"'
    return " ".join([f"http-error status {status} content-type application/problem+json string {quoted}", *header])


_DEFAULTS = (
    # Otherwise a datagram a request, to a log that nobody keeps here.
    "no log",
    # Pipes in the kernel are for bodies larger than a prediction's, and take file descriptors.
    "no option splice-request",
    "no option splice-response",
    # A gateway gets a request when its body is there, and so never waits for a slow sender.
    "option http-buffer-request",
    f"timeout http-request {REQUEST_S}s",
    f"timeout queue {QUEUE_MS}ms",
    f"default-server maxconn {PER_GATEWAY}",
    # Client, second and number of the request: a change that arrives twice is told by it.
    "unique-id-format %ci:%cp-%Ts-%rt",
    f"unique-id-header {ATTEMPT}",
    _problem(
        503,
        "The service is full",
        "too many requests are waiting; try again later",
        "hdr Retry-After 1 hdr Connection close",
    ),
    _problem(408, "The body did not arrive", f"not whole after {REQUEST_S} s"),
)
_GLOBAL = (
    # It would not start where it may not open two files a connection. It needs one, and a few for the gateways.
    "no strict-limits",
)


def _with_lines(value: str, lines: tuple[str, ...]) -> str:
    return "\n    ".join([value, *lines])


VARIABLES = {
    "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": _with_lines("leastconn", _DEFAULTS),
    "RAY_SERVE_HAPROXY_LOG_TARGET": _with_lines("127.0.0.1:514 local0 emerg", (*_GLOBAL, "log 127.0.0.1:514")),
    "RAY_SERVE_HAPROXY_MAXCONN": str(CONNECTIONS),
    # A request whose gateway died before it answered is sent to another: predictions only read, changes carry ATTEMPT.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_RETRIES": "2",
}
"""Ray Serve's variables that carry it, for the environment in which Ray starts."""
