"""Name what a run leaves in its directory: written by smaug_eval.runs, read by smaug_eval.results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from smaug_eval.mt_bench.files.layout import ANSWERS, JUDGMENTS, RUN_FOLDER
from smaug_eval.trainers.layout import (
    ADAPTER_FOLDER,
    CHECKPOINT_FOLDER,
    DIAGNOSTICS_FILE,
    FINISHED_FILE,
    HELD_OUT_FILE,
    LAUNCH_FOLDER,
    LAUNCH_LOCK,
    LOG_FILE,
    RESUME_FOLDER,
    SUMMARY_FILE,
)

RECORD, TWIN = "stage.json", ".stage.json"
"""What a finished stage was made of and what it left; the second is a copy, should the first be damaged."""
HOLDER, LOCK = ".holder.json", ".lock"
"""The process that works on the run, and its lock."""
MANIFEST = "manifest.json"
LOG = "run.log"
JOURNAL = "journal"
SUPERSEDED = "superseded"
"""Where results go that an edited recipe no longer stands for."""
REPORT_FILE = "report.html"
PAIR_SETS, LEAKS, TRAININGS, EVALUATIONS, REPORT = "pairs", "leaks", "train", "eval", "report"
"""What the names of stages begin with, which are also their folders; those of MT-Bench are in its own layout."""
CURVES, CHOICES = "curve", "best"
"""The same of the scores of a training's checkpoints, and of the checkpoint that was chosen by them."""
DECISIONS, DECISIONS_FILE = "decided", "decisions.json"
"""Stages that score documents until a comparison is decided, and what each writes."""
REFERENCES = "reference"
"""The reference's log-probabilities, which trainings share."""
WEIGHTS = (CHECKPOINT_FOLDER, ADAPTER_FOLDER)
"""Folders of a training that the user may link to another disk: nothing is read from them but weights."""
OTHERS = ("wandb", "tensorboard")
"""Folders of a training, or beside results, that other programs write and nothing here reads: they are part of no
record."""
_STEP = "step-"
_OWN = frozenset(
    {MANIFEST, HOLDER, LOCK, PAIR_SETS, LEAKS, TRAININGS, EVALUATIONS, RUN_FOLDER, REPORT, REFERENCES, JOURNAL}
    | {SUPERSEDED, ".cluster", "logs", ANSWERS, JUDGMENTS, CURVES, CHOICES, DECISIONS}
)
_OWN_OF_TRAINING = frozenset(
    {RECORD, TWIN, LOG_FILE, DIAGNOSTICS_FILE, HELD_OUT_FILE, SUMMARY_FILE, FINISHED_FILE}
    | {LAUNCH_FOLDER, LAUNCH_LOCK, RESUME_FOLDER}
)


def pairs_stage(name: str) -> str:
    """Name the stage of a run, and its folder, in which a pair set is built."""
    return f"{PAIR_SETS}/{name}"


def leaks_stage(name: str) -> str:
    """Name the stage of a run, and its folder, in which a pair set is searched for test documents."""
    return f"{LEAKS}/{name}"


def training_stage(name: str) -> str:
    """Name the stage of a run, and its folder, in which a model is trained."""
    return f"{TRAININGS}/{name}"


def evaluation_stage(model: str, name: str, column: str) -> str:
    """Name the stage, and its folder, in which a model is scored on a column of the evaluation ``name``."""
    return f"{EVALUATIONS}/{model}/{name}/{column}"


def curve_stage(training: str, name: str, column: str) -> str:
    """Name the stage, and its folder, in which a training's checkpoints are scored on a column of an evaluation."""
    return f"{CURVES}/{training}/{name}/{column}"


def step_folder(stage: Path, step: int) -> Path:
    """Return the folder of a checkpoint's results within the folder of such a stage."""
    return stage / f"{_STEP}{step}"


def steps_in(stage: Path) -> dict[int, Path]:
    """Return the folders of checkpoints' results in the folder of such a stage, by step."""
    found = {path.name.removeprefix(_STEP): path for path in stage.glob(f"{_STEP}*") if path.is_dir()}
    return {int(step): found[step] for step in sorted(filter(str.isdigit, found), key=int)}


def choice_stage(training: str) -> str:
    """Name the stage, and its folder, in which the best checkpoint of a training is chosen."""
    return f"{CHOICES}/{training}"


def decision_stage(name: str) -> str:
    """Name the stage, and its folder, in which models are scored on an evaluation until its columns are decided."""
    return f"{DECISIONS}/{name}"


def own_paths(run: Path) -> Iterator[Path]:
    """Yield what programs here read or write in a run directory: files and folders, a folder before what it holds.

    Left out is what others put there: W&B's and TensorBoard's folders, weights, and whatever the run has no name for.
    """
    yield from _own_paths(run, (), set())


def training_paths(folder: Path) -> Iterator[Path]:
    """Yield what :func:`own_paths` does, of the folder of one training."""
    yield from _own_paths(folder, (TRAININGS, folder.name), set())


def stage_files(folder: Path) -> list[Path]:
    """List the files that a stage left in its folder, sorted, without its record and others' files."""
    linked = [folder / name for name in WEIGHTS if (folder / name).is_symlink()]
    found = {file for place in (folder, *linked) for file in place.rglob("*") if file.is_file()}
    return sorted(file for file in found if _is_left(file.relative_to(folder).parts, file))


def is_of_others(stage: str, name: str) -> bool:
    """Return whether an output of a stage, by its path in the run directory, is what other programs wrote.

    Records of earlier versions list such files.
    """
    return name.removeprefix(f"{stage}/").split("/", 1)[0] in OTHERS


def _is_left(parts: tuple[str, ...], file: Path) -> bool:
    if parts[0] in WEIGHTS:
        return True
    return parts[0] not in OTHERS and file.name not in (RECORD, TWIN) and not file.is_symlink()


def _own_paths(folder: Path, parts: tuple[str, ...], seen: set[str]) -> Iterator[Path]:
    if (place := os.path.realpath(folder)) in seen:
        return
    seen.add(place)
    try:
        entries = sorted(folder.iterdir())
    except OSError:  # nothing is read there either
        return
    for entry in entries:
        inner = (*parts, entry.name)
        if _is_own(inner):
            yield entry
            if entry.is_dir():
                yield from _own_paths(entry, inner, seen)


def _is_own(parts: tuple[str, ...]) -> bool:
    """Return whether programs here read or write what lies at a place in a run directory."""
    if len(parts) == 1:
        return parts[0] in _OWN or parts[0].startswith(LOG)
    if parts[0] in (TRAININGS, CHOICES):
        return len(parts) != 3 or parts[2] in _OWN_OF_TRAINING
    # What was set aside of a training is never read again.
    return parts[0] != SUPERSEDED or not parts[1].startswith((f"{TRAININGS}__", f"{CHOICES}__"))
