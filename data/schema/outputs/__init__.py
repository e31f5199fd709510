"""What a trained model answers, one class a kind of target."""
