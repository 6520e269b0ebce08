"""The function that the YAML file of this folder names."""

from __future__ import annotations

from colours.benchmark import documents

__all__ = ["documents"]
