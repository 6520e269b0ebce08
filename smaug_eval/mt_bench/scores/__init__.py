"""Compute scores from judgments."""
