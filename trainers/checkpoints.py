"""Keep checkpoints: those to resume from, and the finished one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from smaug_eval.common.digests import sha256_of_files
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json, sync, sync_folder, write_json
from smaug_eval.trainers.layout import ADAPTER_FOLDER, CHECKPOINT_FOLDER, FINISHED_FILE, SUMMARY_FILE
from smaug_eval.trainers.losses import WEIGHTS
from smaug_eval.trainers.processes import wait_for_all

STATE_FILE = "trainer_state.json"
PROCESSES_FILE = "processes.json"
"""Beside the checkpoints: how many processes write them."""
SEAL_FILE = "complete.json"
"""In a checkpoint to resume from, written last: the sizes of its files, which are on the disk."""


@dataclass(frozen=True)
class TrainingResult:
    """Hold what a finished training left behind; the same values are in ``summary.json``.

    Attributes:
        name: Name of the training in the recipe.
        loss: The loss's name in recipes.
        formula: The loss of a pair.
        normalisation: ``summed``, ``averaged`` or ``mixed`` log-probabilities over the tokens of a completion.
        weights: The loss's weights by the names that recipes use.
        forward: How texts were batched: packed, padded, plain or single.
        steps: Optimiser steps taken.
        pairs: Pairs trained on.
        eval_pairs: Held-out pairs scored.
        dropped: Pairs left out when encoding, by reason (training and held-out together).
        truncated: Training pairs that were cut to ``max_length``.
        truncated_prompts: Those of which the prompt was cut.
        truncated_completions: Those of which a completion was cut.
        max_length: Limit in tokens that was applied.
        seed: Seed of the order of the pairs.
        dtype: Type of the saved weights.
        quantize: Weights of the base while its adapter was trained (``nf4``, ``int8``); None for those of ``dtype``.
        processes: Processes that trained together, each with batches of its own.
        base: Name of the base model.
        model_sha256: Digest of the base model's weights, as given.
        train_sha256: Digest of the pair file.
        seconds: Time spent training, interruptions not counted.
        final: Last means over held-out pairs, or over the last training steps where none are held out.
        diagnostics: The last row of ``diagnostics.jsonl``; None where no pairs are held out.
        warnings: What a reader of the numbers should know.
        encoding: How pairs became ids: the ``rule``'s version, the ``date`` that the chat template wrote (None if it
            wrote none), ``merged`` training pairs of which a token spans the border of prompt and completion, and
            ``notes``, what was said of it. Empty in results of versions that did not note it.
        processes_asked: Processes that the launch asked for; None without a launch, and of earlier versions.
        lora: What the adapter adapts, see :class:`~smaug_eval.trainers.coverage.LoraCoverage`; None for a full
            training, and of earlier versions.
        stored: How the base's weights are stored, where that is quantised, as text.
        rounding: What rounding its weights left of the training in ``checkpoint/``, see
            :class:`smaug_eval.trainers.fidelity.Fidelity`; None where nothing was rounded, or trained before that was
            measured.
        evaluated: ``checkpoint``, or ``adapter`` where rounding took much: evaluations then put the adapter beside its
            base.
        kept_step: Step that the weights are of, where the best were to be kept; None for the last.
        reference: Name of the reference where it is another model than the start; None for the start.
    """

    name: str
    loss: str
    formula: str
    normalisation: str
    weights: dict[str, float]
    steps: int
    pairs: int
    eval_pairs: int
    forward: str
    dropped: dict[str, int]
    truncated: int
    truncated_prompts: int
    truncated_completions: int
    max_length: int
    seed: int
    dtype: str
    quantize: str | None
    processes: int
    base: str
    model_sha256: str
    train_sha256: str
    seconds: float
    final: dict[str, float]
    diagnostics: dict[str, Any] | None
    warnings: list[str]
    encoding: dict[str, Any] = field(default_factory=dict)
    processes_asked: int | None = None
    lora: dict[str, Any] | None = None
    stored: str | None = None
    rounding: dict[str, Any] | None = None
    evaluated: str = CHECKPOINT_FOLDER
    reference: str | None = None
    kept_step: int | None = None

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON: every weight that some loss has is a key, with None where this one has it not."""
        values = asdict(self)
        weights = values.pop("weights")
        return values | {name: weights.get(name) for name in WEIGHTS}

    @classmethod
    def from_summary(cls, summary: Mapping[str, Any]) -> TrainingResult:
        """Read what :meth:`summary` returned.

        Raises:
            TypeError: it is none.
        """
        values = {name: value for name, value in summary.items() if name not in WEIGHTS}
        return cls(weights={name: summary[name] for name in WEIGHTS if summary.get(name) is not None}, **values)


def newest_checkpoint(folder: Path, *, remove_incomplete: bool = False) -> Path | None:
    """Return the checkpoint with the highest step that was written completely.

    Args:
        folder: Where the trainer keeps its ``checkpoint-*`` folders.
        remove_incomplete: Whether to remove what a crash left half written.
    """
    complete: dict[int, Path] = {}
    for checkpoint in folder.glob("checkpoint-*"):
        step = checkpoint_step(checkpoint)
        if step is not None:
            complete[step] = checkpoint
        elif remove_incomplete:
            shutil.rmtree(checkpoint)
    return complete[max(complete)] if complete else None


class Sealing(TrainerCallback):
    """Seal every checkpoint once all processes have written theirs, and only then remove the older ones."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal the checkpoint that was just saved."""
        wait_for_all()
        if state.is_world_process_zero:
            newest = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            seal(newest)
            for older in set(newest.parent.glob("checkpoint-*")) - {newest}:
                shutil.rmtree(older)


def seal(checkpoint: Path) -> None:
    """Sync a checkpoint to the disk, and record what belongs to it.

    Raises:
        SmaugError: the disk refuses it.
    """
    sync_folder(checkpoint)
    sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in _files(checkpoint)}
    write_json(checkpoint / SEAL_FILE, {"bytes": sizes})
    sync(checkpoint.parent)


def processes_of(folder: Path) -> int:
    """Return how many processes write the checkpoints of a folder."""
    note = folder / PROCESSES_FILE
    return int(read_json(note)["processes"]) if note.is_file() else 1


def checkpoint_step(checkpoint: Path) -> int | None:
    """Return the step of a complete checkpoint, whose files are those that were sealed; None for an incomplete one."""
    try:
        sizes = read_json(checkpoint / SEAL_FILE)["bytes"]
        if sizes != {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in _files(checkpoint)}:
            return None
        return int(json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))["global_step"])
    except (OSError, SmaugError, ValueError, KeyError, TypeError):
        return None


def mark_finished(out_dir: Path, identity: str) -> None:
    """Record that a training's results are all there.

    Args:
        out_dir: Holds ``checkpoint/`` and ``summary.json``.
        identity: Digest of all that decides them.
    """
    write_json(out_dir / FINISHED_FILE, {"identity": identity, "sha256": _results_sha256(out_dir)})


def finished_result(out_dir: Path, identity: str) -> TrainingResult | None:
    """Return the result of a training that was finished before.

    None where it was not, or its files are not what they were.
    """
    if not (out_dir / FINISHED_FILE).is_file():
        return None
    try:
        if read_json(out_dir / FINISHED_FILE) != {"identity": identity, "sha256": _results_sha256(out_dir)}:
            return None
        summary = read_json(out_dir / SUMMARY_FILE)
        return TrainingResult.from_summary(summary)
    except (OSError, SmaugError, TypeError):
        return None


def evaluated_adapter(out_dir: Path) -> tuple[Path | None, str]:
    """Return the adapter that evaluations of a finished training put beside its base.

    None where ``checkpoint/`` is the model.

    Args:
        out_dir: Folder of the training.

    Returns:
        Its folder, and what rounding took of the merge, as text.
    """
    file = out_dir / SUMMARY_FILE
    summary = read_json(file) if file.is_file() else {}
    if not isinstance(summary, Mapping) or summary.get("evaluated") != ADAPTER_FOLDER:
        return None, ""
    return out_dir / ADAPTER_FOLDER, str((summary.get("rounding") or {}).get("text", ""))


def _results_sha256(out_dir: Path) -> str:
    folders = [folder for name in (CHECKPOINT_FOLDER, ADAPTER_FOLDER) for folder in (out_dir / name).rglob("*")]
    return sha256_of_files([file for file in (*folders, out_dir / SUMMARY_FILE) if file.is_file()], out_dir)


def _files(checkpoint: Path) -> list[Path]:
    return [path for path in checkpoint.rglob("*") if path.is_file() and path.name != SEAL_FILE]
