"""Locate answers and judgments: FastChat's folders, the same in a run's directory and outside of one.

``<folder>/model_answer/[<model>/]<model>.jsonl`` and ``<folder>/model_judgment/[<what>/]<judge>_single.jsonl`` (or
``_pair.jsonl``). In a run the folder is ``mt-bench/<name>``, and every stage has a folder of its own in between.
"""

from __future__ import annotations

import datetime
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smaug_eval.common.files import read_json

RUN_FOLDER = "mt-bench"
ANSWERS, JUDGMENTS = "model_answer", "model_judgment"
SETTINGS = "settings.json"
"""Ends the name of the file beside each file of answers or judgments that says how it was made."""


@dataclass(frozen=True)
class Bench:
    """List what there is of one question set in one folder.

    Attributes:
        name: The recipe's name of it.
        answers: Files of answers by model.
        judgments: Files of judgments, of single answers and of pairs.
    """

    name: str
    answers: Mapping[str, Path]
    judgments: tuple[Path, ...]


def answers_stage(name: str, model: str) -> str:
    """Return a run's stage, and folder, in which a model answers."""
    return f"{RUN_FOLDER}/{name}/{ANSWERS}/{model}"


def judgments_stage(name: str, what: str) -> str:
    """Return a run's stage, and folder, in which a model's answers, or those of ``<a>-vs-<b>``, are judged."""
    return f"{RUN_FOLDER}/{name}/{JUDGMENTS}/{what}"


def answers_file(folder: Path, model: str) -> Path:
    """Return the answers of a model in its folder; FastChat takes the model's name from the file's."""
    return folder / f"{model}.jsonl"


def judgments_file(folder: Path, judge: str, *, pairs: bool) -> Path:
    """Return the judgments by one judge in a folder, under FastChat's name for them."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", judge).strip("-.")[:100] or "judge"
    return folder / f"{safe}_{'pair' if pairs else 'single'}.jsonl"


def settings_file(file: Path) -> Path:
    """Return the path of the settings that a file of answers or judgments was made with."""
    return file.with_name(f"{file.stem}.{SETTINGS}")


def read_settings(file: Path) -> dict[str, Any]:
    """Read the settings that a file of answers or judgments was made with; empty for FastChat's own files."""
    beside = settings_file(file)
    return read_json(beside) if beside.is_file() else {}


def decided_stage(name: str) -> str:
    """Return a run's stage, and folder, in which all models' answers are judged until they are decided."""
    return f"{RUN_FOLDER}/{name}/decided"


def decisions_file(file: Path) -> Path:
    """Return the path of what was decided on judgments, with every look."""
    return file.with_name(f"{file.stem}.decisions.json")


def find_benches(run: Path) -> list[Bench]:
    """Find every question set answered in a run directory, by name."""
    folders = sorted(folder for folder in (run / RUN_FOLDER).glob("*") if folder.is_dir())
    return [
        Bench(
            name=folder.name,
            answers={file.stem: file for file in sorted((folder / ANSWERS).glob("*/*.jsonl"))},
            judgments=tuple(sorted((folder / JUDGMENTS).glob("*/*.jsonl"))),
        )
        for folder in folders
    ]


def set_aside(file: Path) -> Path:
    """Rename a file, so that nothing reads it; return the new name."""
    return file.rename(_aside(file))


def copy_aside(file: Path) -> Path:
    """Copy a file, which is about to be rewritten, to a name under which nothing reads it; returns that."""
    return Path(shutil.copyfile(file, _aside(file)))


def _aside(file: Path) -> Path:
    stamp = datetime.datetime.now().strftime("%Y%m%dT%H%M%S%f")
    return file.with_name(f"{file.name}.superseded-{stamp}")
