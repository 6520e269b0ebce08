"""Define the Open LLM Leaderboard v1 protocol: requests, metrics, scores and published rows."""
