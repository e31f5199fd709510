"""The demo: generate data, train, promote, fill the stores, serve, predict and prove it, in one command."""
