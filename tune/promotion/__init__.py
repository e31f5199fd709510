"""Promotion: the gates, the comparison of two models, and the rows that their holdouts share."""
