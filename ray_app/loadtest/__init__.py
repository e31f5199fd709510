"""Open-loop HTTP load test: sends requests at a fixed schedule, whether or not answers come, and judges latencies."""
