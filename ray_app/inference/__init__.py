"""From a validated row to its scores: model versions, micro-batches, feature fetch, model scoring."""
