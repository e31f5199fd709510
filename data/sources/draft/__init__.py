"""Drafts of use cases: what the columns of an unknown table may be, and what there is to look at."""
