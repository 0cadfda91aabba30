"""Readers: each turns one kind of exported file into a graph of float32 tensors."""
