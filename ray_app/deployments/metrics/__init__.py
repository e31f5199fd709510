"""Metrics of the deployments, as Ray's own metrics and as Prometheus text."""
