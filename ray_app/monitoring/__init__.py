"""Prometheus metrics: what a gateway counts, the text format, and one scrape for all replicas."""
