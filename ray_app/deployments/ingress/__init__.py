"""The way of HTTP into a gateway: what listens, and what answers before Serve does."""
