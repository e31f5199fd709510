"""Measurements of the product on the machine at hand, kept in `docs/performance.md`. Nothing imports this."""
