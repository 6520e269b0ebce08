"""Preference pairs: rows of ``prompt``, ``chosen`` and ``rejected`` text."""
