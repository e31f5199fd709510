"""`get`, `post` and `request` as httpx has them, at a tenth of their cost.

Each call of `httpx.get` makes a TLS context and reads all root certificates into it, which takes 50 ms of a CPU: a loop
that waits for an answer takes more of the machine then than the service that it waits for.
"""

from __future__ import annotations

import httpx

# A connection for every request, as `httpx.get` opens one: whatever balances connections shall see them.
_client = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))
get = _client.get
post = _client.post
request = _client.request
