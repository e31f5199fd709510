"""The training pipeline: from a table to a registered challenger in one call."""
