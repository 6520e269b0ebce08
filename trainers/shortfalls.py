"""Report what was requested and did not come: processes, and rows of a pair set. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping

from smaug_eval.trainers.pairs.pair import reasons_of

FEW = 0.05
"""Share of a set's rows up to which it says nothing that they were left out."""


def process_warnings(asked: int | None, joined: int, pairs: int) -> list[str]:
    """Compare the number of processes that train together with the number requested.

    Args:
        asked: What the launch asked for, over all machines; None where nothing did.
        joined: Members of the process group; 1 where a process does not know of others.
        pairs: Pairs of an optimiser step in each process.
    """
    if asked is None or asked == joined:
        return []
    return [
        f"launch asks for {asked} processes, but {joined} trained together: a step took {pairs * joined} pairs, not "
        f"{pairs * asked} (a file of accelerate of type MULTI_CPU starts one process without mpirun; launch.processes "
        "without a file starts them all)"
    ]


def built_warnings(name: str, rows: int, kept: int, dropped: Mapping[str, int]) -> list[str]:
    """Report a pair set that holds clearly less than was read.

    Args:
        name: What was read.
        rows: Rows read.
        kept: Pairs made of them, held-out ones too.
        dropped: Rows or pairs left out, by reason.
    """
    lost = sum(dropped.values())
    read = max(rows, kept + lost)  # a row may make several pairs
    return [_left_out(f"{name}: of {read:,} rows read", lost, read, dropped)] if lost > FEW * read else []


def _left_out(of_what: str, lost: int, whole: int, dropped: Mapping[str, int]) -> str:
    return f"{of_what} {lost:,} ({lost / whole:.1%}) are left out: {reasons_of(dropped)}"
