"""Run models: lm-eval models, built for a checkpoint and watched while they work."""
