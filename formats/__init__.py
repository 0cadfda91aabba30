"""What a model file is: codes, streams, graph and file. Imports nothing else of DeepChip."""
