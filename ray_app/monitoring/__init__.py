"""Metrics: counters and histograms of a gateway, Prometheus' text format, and the scrape of all replicas."""
