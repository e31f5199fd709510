"""From samples to `docs/performance.md`: figures, tables, pictures, and the machine they were taken on."""
