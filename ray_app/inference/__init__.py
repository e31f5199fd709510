"""From a validated row to a probability: model versions, micro-batches, feature fetch, model scoring."""
