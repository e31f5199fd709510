"""From an accepted row to a probability: model versions, micro-batches, feature fetch, model scoring."""
