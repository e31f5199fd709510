"""Learning from rows: search, training, the model bundle, and the registry."""

import data as data
