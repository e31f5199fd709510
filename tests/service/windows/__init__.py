"""Tests of one service, whose model has windows, that they have between them."""
