"""Do the same for many things at once, where most of the work is numpy's, which lets other threads run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def mapped(function: Callable[[Given], Made], items: Iterable[Given]) -> list[Made]:
    """Return ``function`` of every item, in their order, on as many threads as there are processors.

    Raises:
        Exception: whatever ``function`` raises for the first item that it fails on.
    """
    given = list(items)
    workers = min(len(given), os.cpu_count() or 1)
    if workers < 2:
        return [function(each) for each in given]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, given))
