"""The load test's HTTP client: a pool of raw connections whose cost per request is as small as can be."""
