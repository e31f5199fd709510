"""The offline kernel of window features: all windows of a table at once, in vectors; numpy alone."""
