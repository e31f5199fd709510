"""Promotion: gates, the comparison with the champion, and what two holdouts share."""
