"""Define what the driver orders, and what a worker sends back while it works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smaug_eval.engines.shares import Credit, Share
from smaug_eval.runs.jobs import Job


@dataclass(frozen=True)
class Order:
    """Describe a piece of work.

    Attributes:
        stage: Name of the stage.
        folder: Of the stage.
        job: The stage's work.
        log: Receives what libraries print.
        share: What of the work, for the journal only; None for all of it.
        credit: What shares of it have brought.
    """

    stage: str
    folder: Path
    job: Job
    log: Path
    share: Share | None = None
    credit: Credit | None = None

    @property
    def title(self) -> str:
        """Return the stage, and which share of it."""
        return self.stage if self.share is None else f"{self.stage} {self.share.number + 1}/{self.share.of}"


@dataclass(frozen=True)
class Opened:
    """Request the journal of this scope."""

    scope: Mapping[str, Any]


@dataclass(frozen=True)
class Answered:
    """Send a finished chunk: answers by the journal's keys, and the tokens computed for them."""

    answers: Mapping[str, Any]
    computed: int


@dataclass(frozen=True)
class Settled:
    """Send a choice that holds for the scope."""

    name: str
    value: Any


@dataclass(frozen=True)
class Progress:
    """Report that so many of so many units are done."""

    done: int
    total: int
    note: str


@dataclass(frozen=True)
class Said:
    """Send a line for the user."""

    text: str
    warning: bool


@dataclass(frozen=True)
class Done:
    """Report that the work is done: the record's summary, and the sizes in bytes of the stage's files."""

    summary: Mapping[str, Any]
    files: Mapping[str, int]


@dataclass(frozen=True)
class Failed:
    """Report that the work failed.

    ``interrupted`` where it was stopped on request, ``sound`` where the worker can continue.
    """

    cause: str
    interrupted: bool
    sound: bool


Message = Opened | Answered | Settled | Progress | Said | Done | Failed
