"""What operators compute, twice: `plain` in NumPy, to read, and `compiled` in Numba, to run.

A plain function takes and returns arrays [N, ...], N the batch. A compiled kernel does its share of
an operation on the arena of a program; it is defined by the plain function that it has to agree
with, for codes bit for bit.
"""
