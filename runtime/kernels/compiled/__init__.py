"""The same in Numba, one kernel for each operation of a program; only this package imports it."""
