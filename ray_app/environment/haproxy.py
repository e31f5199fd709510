"""HAProxy settings that Ray Serve's configuration template does not offer: admission limits, time limits, retries.

A gateway is one event loop: the more requests it holds, the longer each takes, and refusing one costs it half as much
as answering it. So HAProxy holds requests back until a gateway has room, and refuses in microseconds those that would
wait too long. It also keeps slow senders and idle connections away from the gateways.

Ray's template has no variables for most of this, but it copies two variables unchanged into haproxy.cfg: the balance
algorithm into the section `defaults`, the log target into `global`. The extra lines are appended to those two values.
"""

from __future__ import annotations

import json

PER_GATEWAY = 128
"""Requests that HAProxy lets into one gateway at once. Even at 200 ms a request that is 640 requests a second."""
QUEUE_MS = 25
"""Longest wait of a request at HAProxy for a free gateway, in ms; then it is refused with 503."""
REQUEST_S = 10
"""Longest time for a request to arrive complete, in s; then it is refused with 408."""
CONNECTIONS = 16_384
"""Most client connections at once; further ones wait to be accepted."""

ATTEMPT = "x-attempt-id"
"""Request header set by HAProxy: an id that stays the same when the request is retried on another gateway."""


def _problem(status: int, title: str, detail: str, *header: str) -> str:
    body = json.dumps(
        {"type": "about:blank", "title": title, "status": status, "detail": detail}, separators=(",", ":")
    )
    quoted = '"' + body.replace('"', '\\"') + '"'
    return " ".join([f"http-error status {status} content-type application/problem+json string {quoted}", *header])


_DEFAULTS = (
    # Without it HAProxy sends one log datagram per request to an address where nothing listens.
    "no log",
    # Splicing through kernel pipes pays for large bodies only, and each pipe takes file descriptors.
    "no option splice-request",
    "no option splice-response",
    # Forward a request once its whole body has arrived, so that a slow sender never occupies a gateway.
    "option http-buffer-request",
    f"timeout http-request {REQUEST_S}s",
    f"timeout queue {QUEUE_MS}ms",
    f"default-server maxconn {PER_GATEWAY}",
    # Client address and port, second, request counter: by it a retried admin change is recognised and applied once.
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
    # HAProxy refuses to start when the file limit is below two per connection. It needs only one per connection,
    # plus a few to the gateways.
    "no strict-limits",
)


def _with_lines(value: str, lines: tuple[str, ...]) -> str:
    return "\n    ".join([value, *lines])


VARIABLES = {
    "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": _with_lines("leastconn", _DEFAULTS),
    "RAY_SERVE_HAPROXY_LOG_TARGET": _with_lines("127.0.0.1:514 local0 emerg", (*_GLOBAL, "log 127.0.0.1:514")),
    "RAY_SERVE_HAPROXY_MAXCONN": str(CONNECTIONS),
    # Resend a request whose gateway died before answering. Ray's default leaves this out because a POST may not be
    # idempotent; here events are recognised by their key, else by ATTEMPT, and so are admin changes.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_RETRIES": "2",
}
"""Environment variables that pass these settings to Ray Serve; they must be set before Ray starts."""
