"""The skew proof: a check, row by row, that a running service computes what training computed."""
