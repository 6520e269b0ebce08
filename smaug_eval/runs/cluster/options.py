"""Define the user's options of a cluster."""

from __future__ import annotations

from dataclasses import dataclass

AUTO = "auto"


@dataclass(frozen=True)
class ClusterOptions:
    """Configure which cluster to use, and how finely work is divided for it.

    Attributes:
        address: ``HOST:PORT`` of a Ray cluster; ``auto`` for the one of ``RAY_ADDRESS`` or of this machine, or, where
            there is none, a new one on this machine.
        shares: Parts that each evaluation is divided into; None for as many as can be worked on at a time.
    """

    address: str = AUTO
    shares: int | None = None
