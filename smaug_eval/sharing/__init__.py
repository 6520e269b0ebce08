"""Bring results out of the house: the Hub's model cards, uploads, Weights & Biases, and other programs' formats."""
