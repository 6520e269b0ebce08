"""Planned faults of a Hub: which requests go wrong, how, and how often."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Literal

FaultKind = Literal["status", "reset", "drop", "cut", "cut-reset", "wait", "slow", "portal", "corrupt"]

LOGIN_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Sign in to the network</body></html>"


@dataclass
class Fault:
    """What goes wrong with some requests.

    Attributes:
        match: Regular expression that is searched for in ``METHOD /path?query``.
        kind: ``status``: answer with ``code``. ``reset``: reset the connection. ``drop``: close it without a word.
            ``cut``: close it after ``bytes`` of the body. ``cut-reset``: reset it there. ``wait``: answer after
            ``seconds``. ``slow``: send the body in pieces of ``bytes``, ``seconds`` apart. ``portal``: answer 200 with
            the HTML of a login page. ``corrupt``: the right number of bytes, one of which is wrong.
        times: How often; always if None.
        code: Of ``status``.
        retry_after: Seconds that ``status`` names in ``Retry-After``.
        message: The error that ``status`` names.
        seconds: Of ``wait`` and ``slow``.
        bytes: Of ``cut``, ``cut-reset`` and ``slow``.
        at: Byte that ``corrupt`` changes; the middle one if None.
        hits: How often it has gone wrong.
    """

    match: str
    kind: FaultKind
    times: int | None = 1
    code: int = 503
    retry_after: int | None = None
    message: str = "planned"
    seconds: float = 0.0
    bytes: int = 0
    at: int | None = None
    hits: int = 0

    def corrupted(self, body: bytes) -> bytes:
        """The body with one byte changed."""
        if not body:
            return body
        place = len(body) // 2 if self.at is None else self.at
        return body[:place] + bytes([body[place] ^ 0x01]) + body[place + 1 :]


@dataclass
class FaultPlan:
    """The faults that are planned, in the order in which they were."""

    faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault) -> Fault:
        """Plan one more."""
        with self._lock:
            self.faults.append(fault)
        return fault

    def clear(self) -> None:
        """Let everything go well again."""
        with self._lock:
            self.faults.clear()

    def take(self, request: str) -> Fault | None:
        """The first fault that is left for a request; it counts as one of its times."""
        with self._lock:
            for fault in self.faults:
                if (fault.times is None or fault.hits < fault.times) and re.search(fault.match, request):
                    fault.hits += 1
                    return fault
        return None
