"""Name the files of pair sets and trainings, and describe a line of the held-out pairs, for writers and readers.

Free of torch, so that results are read in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError

TRAIN_FILE, EVAL_FILE, STATS_FILE = "train.jsonl", "eval.jsonl", "stats.json"
"""Of a built pair set: pairs to train on, held-out pairs, and what was read, dropped and kept."""
QUESTIONS_FILE = "questions.json"
"""Of a built pair set: a digest of each pair's question."""

LOG_FILE, SUMMARY_FILE, DIAGNOSTICS_FILE = "log.jsonl", "summary.json", "diagnostics.jsonl"
HELD_OUT_FILE = "held_out.jsonl"
"""Of a training, written after its last step: one :class:`HeldOutLine` for each held-out pair; before these, of a loss
of single completions, one :class:`LabelledLine` for each held-out completion."""
SAMPLES_FILE = "samples.jsonl"
"""Of a training that was told to: what the policy answers at each evaluation."""
CHECKPOINT_FOLDER, ADAPTER_FOLDER, KEPT_FOLDER = "checkpoint", "adapter", "checkpoints"
"""Of a training: the model, its adapter, and the checkpoints in between that it was told to keep."""
LAUNCH_FOLDER, LAUNCH_LOCK, RESUME_FOLDER = "launch", ".launch.lock", "resume"
"""Of a training: what several processes are told and tell; a lock beside it, held by the main process, since those of a
caller that was killed may still be at work; the checkpoints to resume from while it is unfinished."""
FINISHED_FILE = "finished.json"
"""Beside a finished checkpoint, written last: what it was made of, and a digest of its files."""


def kept_steps(folder: Path) -> dict[int, Path]:
    """Return the checkpoints that a training kept between its steps, by step.

    Args:
        folder: Of the training.
    """
    found = {path.name.partition("-")[2]: path for path in (folder / KEPT_FOLDER).glob("step-*")}
    return {int(step): found[step] for step in sorted(filter(str.isdigit, found), key=int)}


@dataclass(frozen=True)
class HeldOutLine:
    """Hold what a training did to one held-out pair: a line of ``held_out.jsonl``.

    Log-ratios are to the reference, in nats, summed over tokens.

    Attributes:
        pair: A name that depends on prompt and chosen answer alone, so that it is the same in all trainings and at all
            edit distances; ``-2``, ``-3`` follow where a set has several pairs of the same ones.
        edit_distance: Tokens to change over the longer answer's length.
        edits: Tokens to change (Levenshtein).
        chosen_tokens: Tokens of the chosen answer.
        common: Leading tokens that both answers share.
        chosen: Log-ratio of the chosen answer.
        rejected: Log-ratio of the rejected answer.
        chosen_before: The part of ``chosen`` before the first token that differs.
        chosen_at: The part at it; None where the chosen answer has no token there.
        chosen_after: The part after it.
        reference_chosen: Log-probability of the chosen answer under the reference; None in files of before.
    """

    pair: str
    edit_distance: float
    edits: float
    chosen_tokens: float
    common: float
    chosen: float
    rejected: float
    chosen_before: float
    chosen_at: float | None
    chosen_after: float
    reference_chosen: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the line as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, line: Mapping[str, Any], where: str) -> HeldOutLine:
        """Read a line.

        Args:
            line: The parsed JSON object.
            where: File and line, for messages.

        Raises:
            SmaugError: the name or a number is missing.
        """
        values: dict[str, Any] = {each.name: line.get(each.name) for each in fields(cls)}
        name = values.pop("pair")
        wrong = [
            key for key, value in values.items() if not (_is_number(value) or (value is None and key in _OPTIONAL))
        ]
        if wrong or not isinstance(name, str):
            wanted = ", ".join(each.name for each in fields(cls) if each.name not in _OPTIONAL)
            raise SmaugError(f"{where}: expected a name and finite numbers under {wanted}", fix="train again")
        return cls(pair=name, **values)


@dataclass(frozen=True)
class LabelledLine:
    """Hold what a training of single completions (loss kto) did to a held-out one: a line of ``held_out.jsonl``.

    Attributes:
        completion: A name that depends on prompt and completion alone; a desirable one's is that of
            :attr:`HeldOutLine.pair` where it is a pair's chosen answer. ``-2``, ``-3`` follow where a set repeats one.
        label: Whether it is desirable.
        tokens: Its tokens.
        log_ratio: Its log-ratio to the reference, in nats, summed over tokens.
        reference: Its log-probability under the reference.
        in_pair: Whether it is of a pair that has a :class:`HeldOutLine` as well.
    """

    completion: str
    label: bool
    tokens: int
    log_ratio: float
    reference: float
    in_pair: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the line as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, line: Mapping[str, Any], where: str) -> LabelledLine:
        """Read a line.

        Args:
            line: The parsed JSON object.
            where: File and line, for messages.

        Raises:
            SmaugError: the name, the label or a number is missing.
        """
        name, label = line.get("completion"), line.get("label")
        numbers: dict[str, Any] = {key: line.get(key) for key in ("tokens", "log_ratio", "reference")}
        if not isinstance(name, str) or not isinstance(label, bool) or not all(map(_is_number, numbers.values())):
            wanted = "a name under completion, true or false under label and finite numbers under "
            raise SmaugError(f"{where}: expected {wanted}{', '.join(numbers)}", fix="train again")
        return cls(completion=name, label=label, in_pair=line.get("in_pair") is True, **numbers)


_OPTIONAL = ("chosen_before", "chosen_at", "chosen_after", "reference_chosen")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
