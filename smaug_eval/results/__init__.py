"""Read results of runs and of other harnesses, and compare their models with a baseline."""
