"""Build preference pairs: rows of ``prompt``, ``chosen`` and ``rejected``, as text or as chat messages."""
