"""Executes a graph: plan once, run often. Needs NumPy and Numba; imports no converter."""
