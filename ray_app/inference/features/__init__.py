"""Features of the rows of a micro-batch: fetched from the stores, windows over events, expressions."""
