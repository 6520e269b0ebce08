"""Whether a benchmark's documents were trained on: told from a model, and searched for in training pairs."""
