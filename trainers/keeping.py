"""Keep checkpoints of a training beside the last: the best by a metric of the held-out pairs, or all evaluated ones.

What is best, and whether it is time to stop, follows from the rows of the log alone, so that a training that was
stopped continues with the same answer.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.checkpoints import newest_checkpoint
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.layout import KEPT_FOLDER, kept_steps
from smaug_eval.trainers.training_keys import METRICS
from smaug_eval.trainers.training_log import Row

_BEST = "best-{step}.safetensors"
Weights = Mapping[str, Tensor]


def evaluated_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows over held-out pairs of a policy that has been trained."""
    return [row for row in rows if row["split"] == "eval" and row["step"] > 0]


def best_row(rows: Sequence[Row], metric: str) -> Row | None:
    """Return the evaluated row that is best, the first of equal ones; None where there is none."""
    return max(evaluated_rows(rows), key=lambda row: METRICS[metric] * float(row[metric]), default=None)


def without_improvement(rows: Sequence[Row], metric: str) -> int:
    """Return how many evaluations there have been since the best."""
    found, best = evaluated_rows(rows), best_row(rows, metric)
    return 0 if best is None else len(found) - 1 - [row["step"] for row in found].index(best["step"])


class Keeping(TrainerCallback):
    """Keep weights after evaluations, and end a training that does not improve.

    Args:
        config: The training's settings.
        folder: The training's.
        resume_dir: Where its checkpoints to resume from are.
        rows: Returns the rows of the log.
        weights: Returns the policy's weights, those that are trained alone or all; every process must ask.
        write: Writes a model that loads by itself into a folder.
        is_main: Whether this process writes.

    Attributes:
        stopped_early: Whether the training was ended as it did not improve.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: Path,
        resume_dir: Path,
        *,
        rows: Callable[[], Sequence[Row]],
        weights: Callable[[], dict[str, Tensor]],
        write: Callable[[Weights, Path], None],
        is_main: bool,
    ) -> None:
        self._config, self._folder, self._resume_dir = config, folder, resume_dir
        self._rows, self._weights, self._write, self._is_main = rows, weights, write, is_main
        self.stopped_early = False

    def is_best(self, row: Row) -> bool:
        """Check whether a row, which is not in the log yet, is better than all before it."""
        before = best_row(self._rows(), self._config.keep_metric)
        sign = METRICS[self._config.keep_metric]
        metric = self._config.keep_metric
        return before is None or sign * row[metric] > sign * before[metric]

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Keep the weights where they are the best yet, and stop where patience is at an end."""
        rows, config = self._rows(), self._config
        best = None if config.chosen_by is not None else best_row(rows, config.keep_metric)
        if best is None:
            return
        if config.keeps_best_on_pairs and best["step"] == state.global_step:
            weights = self._weights()
            if self._is_main:
                self._resume_dir.mkdir(parents=True, exist_ok=True)
                whole = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
                save_file(_apart(whole), self._best_file(state.global_step))
                self._remove_outdone(best["step"])
        if config.patience is not None and without_improvement(rows, config.keep_metric) >= config.patience:
            self.stopped_early = state.global_step < state.max_steps
            control.should_training_stop = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Keep a whole checkpoint where all are kept, or where it is to be scored.

        The last is in ``checkpoint/``, unless those of the best step will be.
        """
        step, config = state.global_step, self._config
        if not config.keeps_step(step) or (step >= state.max_steps and not config.keeps_best_on_pairs):
            return
        weights = self._weights()
        if self._is_main:
            kept = self._folder / KEPT_FOLDER
            self._write(weights, kept / f"step-{step}")
            self._remove_oldest(kept)

    def best(self) -> tuple[int, dict[str, Tensor]] | None:
        """Return the step of the best evaluation, and the weights that were trained until then; None unless wanted.

        Raises:
            SmaugError: the file with them is gone.
        """
        row = best_row(self._rows(), self._config.keep_metric) if self._config.keeps_best_on_pairs else None
        if row is None:
            return None
        file = self._best_file(row["step"])
        if not self._is_main:
            return row["step"], {}
        try:
            return row["step"], load_file(file)
        except OSError as error:
            raise SmaugError(
                f"{file}, the best weights, cannot be read: {error}", fix=f"remove {self._resume_dir} to start again"
            ) from error

    def _best_file(self, step: int) -> Path:
        return self._resume_dir / _BEST.format(step=step)

    def _remove_outdone(self, step: int) -> None:
        """Remove weights that neither this process nor one that resumes from the last checkpoint will ask for."""
        newest = newest_checkpoint(self._resume_dir)
        known = 0 if newest is None else int(newest.name.rpartition("-")[2])
        before = best_row([row for row in self._rows() if row["step"] <= known], self._config.keep_metric)
        wanted = {self._best_file(step)} | ({self._best_file(before["step"])} if before else set())
        for file in set(self._resume_dir.glob(_BEST.format(step="*"))) - wanted:
            file.unlink()

    def _remove_oldest(self, kept: Path) -> None:
        if self._config.keep_checkpoints is None:
            return
        steps = sorted(step for step in kept_steps(self._folder) if not self._config.scores_step(step))
        for step in steps[: -self._config.keep_checkpoints]:
            shutil.rmtree(kept / f"step-{step}")


def _apart(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share no memory, as safetensors wants them: tied ones once each."""
    seen: set[int] = set()
    found = {}
    for name, value in weights.items():
        found[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return found
