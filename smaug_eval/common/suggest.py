"""Suggest names where a name is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rapidfuzz import fuzz, process

_NEAR_ENOUGH = 55.0


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the most similar candidate, or the list of what there is."""
    options = list(candidates)
    match = process.extractOne(name, options, scorer=fuzz.ratio, score_cutoff=_NEAR_ENOUGH) if options else None
    if match:
        return f"; did you mean {match[0]!r}?"
    return there_is(options)


def there_is(options: Sequence[str]) -> str:
    """Return ``"; there is x, y"``."""
    return f"; there is {', '.join(options)}" if options else "; there is none"
