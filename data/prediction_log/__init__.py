"""The files of the prediction log: their columns, and how they are read."""
