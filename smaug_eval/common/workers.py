"""Share pure Python work among processes, where threads would wait for each other.

The processes are started by this module and not by :mod:`multiprocessing`, which runs the program of the user again in
each of them unless it is guarded, or copies a process whose threads hold locks.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

MOST_WORKERS = 8
"""Processes that are started at most; each takes some 50 MiB."""

_START = "import sys; sys.path[:] = sys.argv[2:]; from smaug_eval.common.workers import work; work(int(sys.argv[1]))"


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(function: Callable[[Given], Made], items: Iterable[Given]) -> list[Made | None]:
    """Return ``function`` of every item, in their order, computed by as many processes as there are processors.

    None stands for what raised or did not come back, as where a process was killed for want of memory: the caller does
    it itself, and raises what there is to raise. With one processor, or where no process can be started, that is all.
    No process is left at the end, nor after Ctrl-C, which does not reach them.

    Args:
        function: It is found by the name of its module and its own.
        items: What it is given; items and results are pickled.
    """
    given = list(items)
    made: list[Made | None] = [None] * len(given)
    workers = min(cores(), MOST_WORKERS, len(given))
    if workers < 2 or not sys.executable:
        return made
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        left = iter(enumerate(given))
        busy: dict[Any, int] = {}
        idle = [stack.enter_context(_worker()) for _ in range(workers)]
        while True:
            for worker in idle:
                place, item = next(left, (-1, None))
                if place >= 0:
                    worker.send((function, item))
                    busy[worker] = place
            if not busy:
                break
            idle = []
            answered: Any
            for answered in wait(list(busy)):
                place = busy.pop(answered)
                with contextlib.suppress(EOFError):  # it has ended
                    made[place] = answered.recv()
                    idle.append(answered)
    return made


@contextlib.contextmanager
def _worker() -> Iterator[Connection[Any, Any]]:
    """Start a process, and end it. It has a session of its own, which the terminal's Ctrl-C does not reach."""
    ours, theirs = Pipe()
    with ours, theirs:
        number = theirs.fileno()
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-c", _START, str(number), *sys.path],
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        try:
            yield ours
        finally:
            process.kill()
            process.wait()


def work(number: int) -> None:
    """Answer what comes in, until the other side is closed.

    Args:
        number: The file descriptor of the connection.
    """
    with Connection(number) as connection, contextlib.suppress(EOFError, OSError):
        while True:
            function, item = connection.recv()
            try:
                found = function(item)
            except Exception:
                found = None
            connection.send(found)
