"""Generated tables of the shipped use cases: seeded, of any number of rows, the same however the work is divided."""
