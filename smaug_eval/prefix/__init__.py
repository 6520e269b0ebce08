"""Compute log-probabilities of texts that share a prefix, each prefix once."""
