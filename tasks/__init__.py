"""Provide lm-eval task files: the Open LLM Leaderboard v1, and the demo suite with its data."""
