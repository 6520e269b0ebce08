"""Choose how threads wait for each other, before torch is loaded.

GNU's OpenMP, with which torch computes on the CPU, lets a thread that waits for the others spin. Where other work
shares the cores, the spinning threads take the time that the one they wait for needs: a small network trained on two
busy cores ran many times slower than on one thread (``python -m benchmarks.threads``).
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

WAIT_POLICY = "OMP_WAIT_POLICY"
SPIN_COUNT = "GOMP_SPINCOUNT"


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set ``OMP_WAIT_POLICY=PASSIVE`` for this process and those it starts, unless the user has decided.

    The library reads the variable once, when torch is loaded: it must be set before.

    Args:
        environment: Where it is set.
    """
    if WAIT_POLICY not in environment and SPIN_COUNT not in environment:
        environment[WAIT_POLICY] = "PASSIVE"
