"""Decide after which steps of a training to log, evaluate and save, and when to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from smaug_eval.trainers.config import TrainingConfig


class Schedule(TrainerCallback):
    """Decide when to log, evaluate and save, and when to stop on request; hand every row on.

    Args:
        config: The training's settings.
        should_stop: Asked after every step; training ends there once it is true.
        on_row: Receives ``(step, steps, row)``.
    """

    def __init__(
        self,
        config: TrainingConfig,
        should_stop: Callable[[], bool],
        on_row: Callable[[int, int, dict[str, Any]], None],
    ) -> None:
        self._config = config
        self._should_stop = should_stop
        self._on_row = on_row
        self.stopped = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Set what the trainer does after this step."""
        step, config = state.global_step, self._config
        last = step >= state.max_steps
        self.stopped = not last and self._should_stop()
        # The last step needs no checkpoint to resume from: the finished one follows.
        control.should_save = self.stopped or (not last and _due(step, config.save_every))
        control.should_evaluate = last or _due(step, config.eval_every)
        # A row never reaches across a checkpoint, so that nothing is lost or logged twice when resuming from it. The
        # first step has a row of its own: it is taken with the reference's weights.
        # One that may end with an evaluation logs all steps until it.
        ends = config.patience is not None and control.should_evaluate
        control.should_log = ends or step == 1 or last or control.should_save or _due(step, config.log_every)
        control.should_training_stop = last or self.stopped
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Pass on a row of training or evaluation means."""
        if logs and "split" in logs:
            row = {"split": logs["split"], "step": state.global_step, **logs}
            self._on_row(state.global_step, state.max_steps, row)


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
