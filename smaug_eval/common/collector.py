"""Stop the collector of reference cycles while millions of objects are made that are all kept."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Do not look for reference cycles inside; looking through a report's documents again and again takes a sixth.

    What is no part of a cycle is freed as ever. What is there at the end counts as old, which is seldom looked through.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
        if was_enabled:
            gc.enable()
