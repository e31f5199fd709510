"""The transform from raw values to numbers: one feature encoding for training and serving, and event times."""
