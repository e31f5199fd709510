"""Tests of one service that they have between them."""
