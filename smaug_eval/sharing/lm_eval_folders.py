"""Write results and samples in folders as lm-eval writes them: one per model, named like it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from smaug_eval.common.files import write_text
from smaug_eval.results.names import ModelName
from smaug_eval.results.sample_files import Samples, sample_rows
from smaug_eval.results.sources import Source
from smaug_eval.results.task_results import Evaluation
from smaug_eval.sharing.places import Places

_UNSAFE = re.compile(r"[\"<>:/\\|?*\[\]]+")


def write_lm_eval(sources: Sequence[Source], out: Path, places: Places) -> list[Path]:
    """Write ``<model>/results_<date>.json`` and ``<model>/samples_<task>_<date>.jsonl`` of every evaluation.

    Numbers, configurations and samples are the originals; models have the names of the run, and paths of this machine
    are left out.

    Args:
        sources: With evaluations.
        out: Where the models' folders go.
        places: Of this machine.

    Returns:
        The files.
    """
    return [file for source in sources for each in source.evaluations for file in _write(source, each, out, places)]


def _write(source: Source, evaluation: Evaluation, out: Path, places: Places) -> Iterator[Path]:
    model = _name(source, evaluation.model)
    folder = out / _UNSAFE.sub("__", model)
    document: dict[str, Any] = json.loads(evaluation.source.read_text(encoding="utf-8"))
    document = places.hide_in(document)
    config = document.get("config") if isinstance(document.get("config"), dict) else {}
    document |= {"model_name": model, "model_name_sanitized": folder.name, "config": config}
    stamp = evaluation.source.stem.removeprefix("results_")
    file = _free(folder / f"results_{stamp}.json")
    write_text(file, json.dumps(document, indent=2, ensure_ascii=False))
    yield file
    stamp = file.stem.removeprefix("results_")
    for task, result in evaluation.tasks.items():
        if result.samples is not None:
            target = folder / f"samples_{task}_{stamp}.jsonl"
            _copy(result.samples, target)
            yield target


def _name(source: Source, model: ModelName) -> str:
    """What the run calls a model; a name that others' files give, without the folders before it."""
    return model.name if not model.name.startswith(("/", ".")) else Path(model.name).name


def _free(file: Path) -> Path:
    """A name that no other column of the same second took."""
    number = 1
    while file.exists():
        number += 1
        head, _, _ = file.stem.partition("~")
        file = file.with_name(f"{head}~{number}{file.suffix}")
    return file


def _copy(samples: Samples, target: Path) -> None:
    if isinstance(samples, Path) and samples.suffix == ".jsonl":
        shutil.copyfile(samples, target)
        return
    with target.open("w", encoding="utf-8") as lines:
        for row in sample_rows(samples):
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
