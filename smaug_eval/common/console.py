"""Show progress to the user: one console, one progress display, one log file.

On a terminal a live progress bar with the time left; elsewhere (a pipe, a scheduler's log) plain lines now and then.
The log has these lines in any case, so that a closed terminal or ``--quiet`` hides nothing.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from smaug_eval.common.redaction import mask_file, redacted

PLAIN_LINE_SECONDS = 10.0
LOG_BYTES = 32 << 20
LOGS_KEPT = 3

log = logging.getLogger(__name__)
_EVERY_REQUEST = ("httpx", "httpx2", "httpcore")
"""Libraries that log the address of every request, which may be signed."""


class Voice(Protocol):
    """Receive the progress of some work."""

    def say(self, text: str) -> None:
        """Print a line that stays."""

    def warn(self, text: str) -> None:
        """Print a warning that stays, shown even when quiet."""

    def update(self, done: int, total: int, note: str = "") -> None:
        """Report that ``done`` of ``total`` units are finished; ``note`` is a short remark."""


class Reporter:
    """Show the progress of a run: ``with Reporter(console) as reporter``, then ``stage`` and ``update``.

    Args:
        console: Where to write; live bars are drawn only if it is a terminal.
        quiet: Show nothing but warnings.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console = console
        self.quiet = quiet
        self._live = console.is_terminal and not quiet
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("[progress.description]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._title = ""
        self._started = 0.0
        self._last_line = 0.0
        self._overall = False
        self._warned: set[str] = set()

    def __enter__(self) -> Reporter:
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line that stays; ``text`` is printed as it is, never read as markup."""
        if not self.quiet:
            self.console.print(redacted(text), markup=False, highlight=False)

    def warn(self, text: str) -> None:
        """Print a warning that stays, shown even when quiet; once where a stage and its result report the same."""
        if text in self._warned:
            return
        self._warned.add(text)
        self.console.print(f"warning: {redacted(text)}", style="yellow", markup=False, highlight=False)

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Start a stage: everything reported inside belongs to ``title``."""
        self._title, self._started, self._last_line = title, time.monotonic(), time.monotonic()
        self._warned.clear()
        if self._live:
            self._task = self._progress.add_task(title.replace("[", "\\["), total=None, note="")
        try:
            yield
        finally:
            if self._task is not None:
                self._progress.remove_task(self._task)
                self._task = None

    @contextlib.contextmanager
    def overall(self, title: str) -> Iterator[None]:
        """Start several stages at once, whose progress :meth:`update_overall` reports."""
        self._overall = True
        try:
            with self.stage(title):
                yield
        finally:
            self._overall = False

    def update(self, done: int, total: int, note: str = "") -> None:
        """Report that the stage has finished ``done`` of ``total`` units; ``note`` is shown beside the bar."""
        if not self._overall:
            self.update_overall(done, total, note)

    def update_overall(self, done: int, total: int, note: str = "") -> None:
        """Report the progress of all work inside :meth:`overall`, as :meth:`update` does for one stage."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total, note=note.replace("[", "\\["))
        now = time.monotonic()
        if now - self._last_line < PLAIN_LINE_SECONDS or not 0 < done <= total:
            return
        self._last_line = now
        left = (now - self._started) / done * (total - done)
        line = f"{self._title}: {done}/{total}, about {left:.0f} s left{', ' + note if note else ''}"
        log.info(line)
        if self._task is None:
            self.say(f"  {line}")


class SteadyStream(io.TextIOBase):
    """Write text to a file descriptor, and drop it once the terminal or pipe is closed.

    Args:
        descriptor: Where to write.
    """

    encoding = "utf-8"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Check whether the stream is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, text: str) -> int:
        """Write at once, or not at all."""
        left = text.encode("utf-8", "replace")
        with contextlib.suppress(OSError):
            while left:
                left = left[os.write(self._descriptor, left) :]
        return len(text)


class _LogFormatter(logging.Formatter):
    """The log's lines, tracebacks included, without keys."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(name)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


class _SharedLog(logging.Handler):
    """Appends to a log that other processes and compiled code append to as well, and keeps it from growing on.

    A log of more than ``LOG_BYTES`` is copied to ``<name>.1`` and emptied in place, as ``logrotate`` does with
    ``copytruncate``: everybody who appends to it by a descriptor continues in the same file. A full disk costs lines.

    Attributes:
        begun: Byte at which what is appended from now on begins.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        self._stream = file.open("ab", buffering=0)
        self.begun = os.fstat(self.descriptor).st_size
        self.setFormatter(_LogFormatter())

    @property
    def descriptor(self) -> int:
        """What others may append to."""
        return self._stream.fileno()

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            self._stream.write((self.format(record) + "\n").encode("utf-8", "replace"))
            if os.fstat(self.descriptor).st_size > LOG_BYTES:
                self._rotate()

    def _rotate(self) -> None:
        names = [self._file, *(self._file.with_name(f"{self._file.name}.{n}") for n in range(1, LOGS_KEPT + 1))]
        for older, newer in zip(reversed(names), reversed(names[1:-1]), strict=False):
            if newer.exists():
                newer.replace(older)
        mask_file(self._file, self.begun)
        shutil.copyfile(self._file, names[1])
        os.ftruncate(self.descriptor, 0)
        self.begun = 0

    def close(self) -> None:
        self._stream.close()
        super().close()


class _LineLogger(io.TextIOBase):
    """A text stream whose finished lines go to a logger; lines redrawn with carriage returns are dropped."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip() and "\r" not in line:
                self._logger.info(line.rstrip())
        if "\r" in self._rest:
            self._rest = self._rest.rpartition("\r")[2]
        return len(text)


@contextlib.contextmanager
def captured_output(log_file: Path) -> Iterator[None]:
    """Send what libraries print, log and warn to ``log_file`` so that the console stays readable.

    The file is rotated at ``LOG_BYTES``; ``LOGS_KEPT`` older ones stay.

    Covered are Python's logging, warnings and streams, and what subprocesses and compiled code write to the standard
    file descriptors. All is restored afterwards; a console of :func:`make_console` keeps writing to the terminal.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    _mask_left_over(log_file)
    handler = _SharedLog(log_file)
    root = logging.getLogger()
    previous_handlers, previous_level = root.handlers[:], root.level
    propagation = {}
    for name in ("transformers", "datasets", "lm_eval", "vllm"):
        library = logging.getLogger(name)
        propagation[name] = (library.propagate, library.handlers[:])
        library.propagate, library.handlers = True, []
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in _EVERY_REQUEST:
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.WARNING)
    stream = _LineLogger(logging.getLogger("output"))
    try:
        with (
            _descriptors_redirected(handler.descriptor),
            contextlib.redirect_stdout(stream),
            contextlib.redirect_stderr(stream),
            warnings.catch_warnings(),
        ):
            logging.captureWarnings(True)
            yield
    finally:
        logging.captureWarnings(False)
        root.handlers = previous_handlers
        root.setLevel(previous_level)  # which also forgets what loggers know of levels
        for name, (propagate, handlers) in propagation.items():
            logging.getLogger(name).propagate, logging.getLogger(name).handlers = propagate, handlers
        handler.close()
        mask_file(log_file, handler.begun)  # what did not come through it: child processes, compiled code


@cache
def _mask_left_over(log_file: Path) -> None:
    """Mask what a process that was killed had no time for: once, as each use of the log masks its own part."""
    mask_file(log_file)


@contextlib.contextmanager
def _descriptors_redirected(target: int) -> Iterator[None]:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # a closed terminal or pipe
            stream.flush()
    saved = {number: os.dup(number) for number in (1, 2)}
    try:
        for number in saved:
            os.dup2(target, number)
        yield
    finally:
        for number, original in saved.items():
            os.dup2(original, number)
            os.close(original)


def make_console() -> Console:
    """Make a console on a standard error stream of its own, which :func:`captured_output` leaves alone.

    A terminal that is closed, or a pipe that nobody reads any more, does not stop the work.
    """
    return Console(file=cast(IO[str], SteadyStream(os.dup(2))), soft_wrap=True)
