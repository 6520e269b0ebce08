"""Run a recipe: its stages, their records, and what is resumed."""
