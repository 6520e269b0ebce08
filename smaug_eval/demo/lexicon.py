"""Define how the world's word lists are written down."""

from __future__ import annotations


def words(text: str) -> tuple[str, ...]:
    """Return ``"red blue"`` to ``("red", "blue")``."""
    return tuple(text.split())


def pairs(text: str) -> dict[str, str]:
    """Return ``"hot-cold wet-dry"`` to ``{"hot": "cold", "wet": "dry"}``."""
    return dict(pair.split("-") for pair in text.split())


def members(text: str) -> dict[str, str]:
    """Return ``"fish: cod pike, bird: owl"`` to ``{"cod": "fish", "pike": "fish", "owl": "bird"}``."""
    groups = (group.split(":") for group in text.split(","))
    return {name: value.strip() for value, names in groups for name in names.split()}
