"""Tests of searching, training and Ray Data on one cluster that they have between them."""
