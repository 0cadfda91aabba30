"""Passes: each takes a graph and returns a graph that computes the same, one a file."""
