"""Measures what a model takes on this machine: time, memory, and what may have disturbed them.

A model is loaded and run in a process of its own (`child`), so that the memory is the model's and
its start is one from nothing; this process asks it over a pipe, and watches it (`watch`).
"""
