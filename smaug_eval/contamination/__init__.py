"""Check whether a benchmark's documents were trained on: with a model, and by searching training pairs."""
