"""Divide the work on some requests among several processes; free of torch, like its planner."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """Describe one process's part of the work on some requests.

    Attributes:
        number: Which part, from 0.
        of: How many there are.
    """

    number: int
    of: int


@dataclass(frozen=True)
class Credit:
    """Hold what other processes have done of the present work.

    Attributes:
        keys: Requests they answered, as the journal names them.
        computed: Tokens they computed for log-likelihoods.
    """

    keys: Collection[str] = ()
    computed: int = 0
