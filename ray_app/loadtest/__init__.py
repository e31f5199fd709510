"""The load test: sends requests to a running service on a schedule that does not wait for answers, and judges it."""
