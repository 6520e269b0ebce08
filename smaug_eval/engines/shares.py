"""How several processes divide the work on some requests; free of torch, as whoever plans it is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """One part of the work on some requests, which several processes divide among themselves.

    Attributes:
        number: Which part, from 0.
        of: How many there are.
    """

    number: int
    of: int


class ShareDone(Exception):
    """Raised to the caller, instead of answers: those of the share are in the journal, the others need not be."""


@dataclass(frozen=True)
class Credit:
    """What other processes have done of the present work.

    Attributes:
        keys: Requests they answered, as the journal names them.
        computed: Tokens they computed for log-likelihoods.
    """

    keys: Collection[str] = ()
    computed: int = 0
