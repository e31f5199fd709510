"""The proof that a running service computes what training computed."""
