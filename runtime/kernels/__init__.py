"""Kernels: the same functions twice, `plain` in NumPy to read and `compiled` in Numba to run.

Both packages hold the modules `conv`, `fully_connected`, `pooling` and `elementwise` with functions
of the same names, arguments and results. Arrays are [N, ...], N the batch.
"""
