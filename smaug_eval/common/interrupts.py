"""Handle Ctrl-C and SIGTERM: finish what can be finished, and leave a state that the same command resumes.

A closed terminal (SIGHUP) stops nothing: the run continues, and its progress is in its log.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

log = logging.getLogger(__name__)


class Interrupts:
    """Handle stop signals: set a request where the work can stop by itself, else raise ``KeyboardInterrupt``.

    Args:
        notice: Called with a line for the user at the first signal.
    """

    def __init__(self, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._graceful = False
        self._requested = False

    def requested(self) -> bool:
        """Check whether the user requested a stop."""
        return self._requested

    @contextlib.contextmanager
    def graceful(self) -> Iterator[None]:
        """Let the first signal inside only set :meth:`requested`; a second one stops at once."""
        self._graceful = True
        try:
            yield
        finally:
            self._graceful = False

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handle SIGINT, SIGTERM and SIGHUP inside; outside the main thread signals stay as they are."""
        self._requested = False
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._go_on)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._graceful and not self._requested:
            self._requested = True
            self._notice("stopping after this step, with a checkpoint; once more stops at once")
            return
        self._requested = True
        raise KeyboardInterrupt

    def _go_on(self, number: int, frame: FrameType | None) -> None:
        log.warning("the terminal is closed; the run continues")


def exit_at_once(code: int) -> NoReturn:
    """End this process with an exit code, without taking the interpreter apart first.

    That takes seconds once torch and transformers are loaded, in which Ctrl-C seems to have done nothing. What a
    process owes to others is done: threads that are no daemons end, functions of ``atexit`` are called, streams are
    written out.
    """
    getattr(threading, "_shutdown", lambda: None)()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
