"""From values to numbers: one encoding for training and serving, and event times."""
