"""Measure speed, memory and correctness: one command per figure that the documentation gives."""
