"""Score the checkpoints of a training, and make a model of the best of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import canonical_json, read_json, sha256_of_text, write_json, write_text
from smaug_eval.engines.build import takes_adapter
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.models.adapter_files import holds_adapter, name_base
from smaug_eval.models.checkpoint import locate
from smaug_eval.results.layout import CHECKPOINT_FOLDER, step_folder, steps_in
from smaug_eval.runs.jobs import EvaluationJob, Workplace
from smaug_eval.trainers.layout import ADAPTER_FOLDER, FINISHED_FILE, SUMMARY_FILE, kept_steps

_DONE = "evaluated.json"
"""In the folder of a checkpoint's results, written last: what was scored, and the summary."""
_MERGED = ".merged-"
_COUNTED = ("documents", "requests", "truncated")


@dataclass(frozen=True)
class CheckpointsJob:
    """Describe the evaluation of a training's checkpoints on one column, one after the other.

    Attributes:
        evaluation: Of the finished training.
        training: Its folder.
        every: Steps between the checkpoints.
        start: Folder of the model that it started from, beside which adapters stand.
        start_adapter: Adapter that it started from; None for none.
        dtype: Precision of the training, for adapters that an engine takes merged alone.
        only: The step of the only checkpoint to score, while the training may still go on; None for all of them.
    """

    evaluation: EvaluationJob
    training: Path
    every: int
    start: Path
    start_adapter: Path | None
    dtype: str
    only: int | None = None

    @property
    def model(self) -> str:
        """Return the engine and what it is loaded with at the end."""
        return self.evaluation.model

    def perform(self, folder: Path, place: Workplace) -> Mapping[str, Any]:
        """Evaluate, as :class:`~smaug_eval.runs.jobs.Job` describes; checkpoints that are done are not done again."""
        steps = [self.only] if self.only is not None else [*self.ready(), last_step(self.training)]
        found = {step: self._score(step, folder, place) for step in sorted(set(steps))}
        if self.only is not None:
            return {}
        for step, out in steps_in(folder).items():
            if step not in found:  # of an earlier attempt, which kept others
                shutil.rmtree(out)
        revisions = {name: commit for each in found.values() for name, commit in each["data_revisions"].items()}
        return {
            "steps": list(found),
            **{name: sum(int(each[name]) for each in found.values()) for name in _COUNTED},
            "data_revisions": revisions,
            "warnings": list(dict.fromkeys(text for each in found.values() for text in each["warnings"])),
            "result": sha256_of_text(canonical_json([[step, each["result"]] for step, each in found.items()])),
        }

    def ready(self) -> list[int]:
        """Return the steps of the checkpoints that are there already, without what a finished training left."""
        return [0, *(step for step in kept_steps(self.training) if step % self.every == 0)]

    def _score(self, step: int, folder: Path, place: Workplace) -> Mapping[str, Any]:
        out = step_folder(folder, step)
        spec, base = self._model(step)
        weights = [spec.checkpoint, *([] if spec.adapter is None else [spec.adapter])]
        mark = _mark(weights)
        if (before := _done(out, mark)) is not None:
            return before
        place.voice.say(f"{self.training.name}: the checkpoint of step {step}")
        out.mkdir(parents=True, exist_ok=True)
        with self._loadable(spec, folder) as engine:
            summary = dict(replace(self.evaluation, engine=engine, base=base).perform(out, place))
        write_json(out / _DONE, {"weights": mark, "summary": summary})
        return summary

    def _model(self, step: int) -> tuple[EngineSpec, Path | None]:
        """The weights of a step, and the base of what a finished training left where that may be an adapter."""
        engine = self.evaluation.engine
        if step == 0:
            return replace(engine, checkpoint=self.start, adapter=self.start_adapter), None
        is_finished = (self.training / FINISHED_FILE).is_file()
        if is_finished and step == last_step(self.training):
            return engine, self.evaluation.base
        path = kept_steps(self.training)[step]
        if holds_adapter(path):
            return replace(engine, checkpoint=self.start, adapter=path), None
        return replace(engine, checkpoint=path), None

    @contextmanager
    def _loadable(self, spec: EngineSpec, folder: Path) -> Iterator[EngineSpec]:
        """The same weights as an engine takes them: an adapter that it cannot put beside its base is merged."""
        adapter = spec.adapter
        if adapter is None or takes_adapter(spec.engine, adapter, spec.checkpoint):
            yield spec
            return
        with TemporaryDirectory(dir=folder, prefix=_MERGED) as place:
            merged = Path(place) / CHECKPOINT_FOLDER
            merge(adapter, spec.checkpoint, self.dtype, merged)
            yield replace(spec, checkpoint=merged, adapter=None)


def last_step(training: Path) -> int:
    """Return the step that the weights which a finished training left are of.

    Args:
        training: Its folder.
    """
    summary = read_json(training / SUMMARY_FILE)
    kept = summary.get("kept_step")
    return int(summary["steps"] if kept is None else kept)


def merge(adapter: Path, base: Path, dtype: str, out: Path) -> Any:
    """Merge a checkpoint of a training into what it started from; returns what rounding took."""
    from smaug_eval.trainers.merge import merge_adapter

    sha256 = locate(str(base)).sha256
    return merge_adapter(adapter, base_path=base, base_name=base.name, base_sha256=sha256, dtype=dtype, out_dir=out)


@dataclass(frozen=True)
class Chosen:
    """Hold what a training's best checkpoint is made from.

    Attributes:
        training: Folder of the training.
        start: Folder of the model that it started from.
        start_name: What its adapters name as their base: Hub id or path.
        start_revision: Commit of that on the Hub; None for one from elsewhere.
        dtype: Precision of the training.
        trust_remote_code: Whether Python code that came with the base may run.
    """

    training: Path
    start: Path
    start_name: str
    start_revision: str | None
    dtype: str
    trust_remote_code: bool

    def make(self, folder: Path, step: int, metric: str, scores: Mapping[int, float]) -> Mapping[str, Any]:
        """Make the model of a step; returns the summary for the stage's record.

        Args:
            folder: Receives ``checkpoint/``, of a LoRA training ``adapter/``, and ``summary.json``.
            step: The step that was chosen.
            metric: By what.
            scores: By step.

        Raises:
            SmaugError: the checkpoint is gone, or cannot be written.
        """
        for name in (CHECKPOINT_FOLDER, ADAPTER_FOLDER):
            shutil.rmtree(folder / name, ignore_errors=True)  # of an attempt that did not finish
        about: dict[str, Any] = {"step": step, "metric": metric, "scores": {str(n): v for n, v in scores.items()}}
        is_last = step == last_step(self.training)
        about |= self._copied(folder) if is_last else self._kept(folder, step, metric)
        write_json(folder / SUMMARY_FILE, about)
        found = locate(str(folder / CHECKPOINT_FOLDER), trust_remote_code=self.trust_remote_code)
        return {**about, "warnings": about.get("warnings", []), "model": found.describe()}

    def _copied(self, folder: Path) -> dict[str, Any]:
        """What the training left."""
        for name in (CHECKPOINT_FOLDER, ADAPTER_FOLDER):
            if (self.training / name).is_dir():
                _copy(self.training / name, folder / name)
        summary = read_json(self.training / SUMMARY_FILE)
        return {key: summary[key] for key in ("evaluated", "rounding") if summary.get(key) is not None}

    def _kept(self, folder: Path, step: int, metric: str) -> dict[str, Any]:
        """A checkpoint in between, with a model card."""
        path = kept_steps(self.training).get(step)
        if path is None:
            raise SmaugError(f"{self.training}: the checkpoint of step {step} is gone", fix="train again")
        if not holds_adapter(path):
            _copy(path, folder / CHECKPOINT_FOLDER)
            self._write_card(folder / CHECKPOINT_FOLDER, step, metric)
            return {}
        _copy(path, folder / ADAPTER_FOLDER)
        self._write_card(folder / ADAPTER_FOLDER, step, metric)
        name_base(folder / ADAPTER_FOLDER, self.start_name, self.start_revision)
        fidelity = merge(path, self.start, self.dtype, folder / CHECKPOINT_FOLDER)
        found: dict[str, Any] = {"rounding": {"text": fidelity.describe()}}
        if fidelity.is_much:
            told = f"{self.training.name}: {fidelity.describe()}; evaluations use the adapter beside its base"
            found |= {"evaluated": ADAPTER_FOLDER, "warnings": [told]}
        return found

    def _write_card(self, folder: Path, step: int, metric: str) -> None:
        from smaug_eval.trainers.saving import model_card, versions

        is_adapter = folder.name == ADAPTER_FOLDER
        what = "LoRA adapter" if is_adapter else "model"
        text = (
            f"A {what} trained on preference pairs with smaug-eval: the checkpoint with the best score in development."
        )
        facts = {"training": self.training.name, "step": step, "chosen by": metric, "weights": self.dtype, **versions()}
        hub_id = None if self.start_revision is None else self.start_name
        library = "peft" if is_adapter else "transformers"
        (folder / "README.md").unlink(missing_ok=True)
        write_text(
            folder / "README.md", model_card(self.training.name, text, facts, library=library, base_model=hub_id)
        )


def _done(folder: Path, mark: str) -> Mapping[str, Any] | None:
    """The summary of a checkpoint that was scored before; None where it was not, or is another one now."""
    if not (folder / _DONE).is_file():
        return None
    try:
        found = read_json(folder / _DONE)
    except SmaugError:
        return None
    return found["summary"] if isinstance(found, dict) and found.get("weights") == mark else None


def _mark(folders: Sequence[Path]) -> str:
    """What tells weights from others that take their place: names, sizes and times of their files.

    A hash of gigabytes for each task would take longer than many of them.
    """
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    stats = [(file, file.stat()) for file in files]
    return sha256_of_text(canonical_json([[file.name, each.st_size, each.st_mtime_ns] for file, each in stats]))


def _copy(source: Path, target: Path) -> None:
    """Copy a folder; files become further names of the same contents where the disk allows it."""

    def link(file: str, place: str) -> None:
        try:
            os.link(file, place)
        except OSError:
            shutil.copyfile(file, place)

    shutil.copytree(source, target, copy_function=link)
    for file in target.rglob("*.json"):  # those that are written again must not be the other's, too
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
