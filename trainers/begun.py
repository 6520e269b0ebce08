"""Record what a training was started with: it resumes with the same, or not at all."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json, write_json
from smaug_eval.trainers.checkpoints import PROCESSES_FILE, newest_checkpoint, processes_of
from smaug_eval.trainers.processes import process_count, process_index, wait_for_all

BEGUN_FILE = "begun.json"
"""Beside the checkpoints: the day that chat templates take for today, and digests of the encoded pairs."""


def keep_date(folder: Path, date: datetime.date) -> None:
    """Record the date of a training that starts; one that was started earlier keeps its own."""
    if "date" not in _noted(folder):
        write_json(folder / BEGUN_FILE, {**_noted(folder), "date": date.isoformat()})


def kept_date(folder: Path) -> datetime.date:
    """Return the date that was noted.

    Raises:
        SmaugError: there is none.
    """
    try:
        return datetime.date.fromisoformat(str(_noted(folder)["date"]))
    except (KeyError, ValueError) as error:
        raise SmaugError(f"{folder / BEGUN_FILE} holds no date", fix=f"remove {folder} to start again") from error


def check_same_pairs(folder: Path, digests: Mapping[str, str], *, resumes: bool, scored: bool, writes: bool) -> None:
    """Check that a training resumes with the token ids that it was started with, and record those of a new one.

    Args:
        folder: Where its checkpoints are.
        digests: Of the ids, by split.
        resumes: Whether it resumes from a checkpoint.
        scored: Whether the reference's scores of these ids are there. What an earlier version began has no note of its
            ids, but their scores.
        writes: Whether this process writes.

    Raises:
        SmaugError: the ids are others: another version of this program may encode the pairs otherwise.
    """
    noted = _noted(folder)
    before = noted.get("pairs")
    if resumes and (before != dict(digests) if before is not None else not scored):
        raise SmaugError(
            f"{folder}: the pairs are encoded into other ids than those that the training was begun with",
            fix=f"resume with the version and the tokenizer of its start, or remove {folder} to start again",
        )
    if writes and before != dict(digests):
        write_json(folder / BEGUN_FILE, {**noted, "pairs": dict(digests)})


def checkpoint_to_resume_from(folder: Path, name: str, date: datetime.date) -> Path | None:
    """Return the newest checkpoint to resume from.

    The main process removes incomplete checkpoints first, and records the number of processes and the date.

    Args:
        folder: Where the checkpoints are.
        name: Of the training.
        date: The day that chat templates take for today.

    Raises:
        SmaugError: the training was begun with another number of processes.
    """
    if process_index() == 0:
        newest_checkpoint(folder, remove_incomplete=True)
        keep_date(folder, date)
    wait_for_all()
    newest = newest_checkpoint(folder)
    if newest is not None and (before := processes_of(folder)) != process_count():
        raise SmaugError(
            f"training {name} was begun with {before} processes and cannot continue with {process_count()}",
            fix=f"launch it with {before} again, or remove {folder} to start again",
        )
    if process_index() == 0:
        write_json(folder / PROCESSES_FILE, {"processes": process_count()})
    return newest


def _noted(folder: Path) -> dict[str, Any]:
    file = folder / BEGUN_FILE
    found = read_json(file) if file.is_file() else {}
    return found if isinstance(found, dict) else {}
