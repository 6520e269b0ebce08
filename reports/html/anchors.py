"""Make ids for parts of the page from names that may hold anything."""

from __future__ import annotations

import re
from collections import Counter

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 80


class Anchors:
    """Make ids that are unique on the page, and the same for the same files.

    Args:
        kind: What they begin with.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._seen: Counter[str] = Counter()

    def of(self, *parts: str) -> str:
        """Return the id of what these names lead to."""
        name = f"{self._kind}-" + _UNSAFE.sub("-", "-".join(parts))[:_LONGEST]
        self._seen[name] += 1
        return name if self._seen[name] == 1 else f"{name}~{self._seen[name]}"
