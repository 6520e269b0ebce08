"""Find, check and load models and adapters."""
