"""Move the reference towards the policy every few steps (TR-DPO), and score it in the policy's place.

Source: Gorbatovski et al., "Learn Your Reference Model for Real Good Alignment", arXiv 2404.09656, Eq. 3 (soft update)
and Eq. 4 (hard update, with a weight of 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from smaug_eval.common.errors import SmaugError

FILE = "moving_reference.safetensors"
"""In a checkpoint to resume from: the reference's weights."""
_MOVED = "moved"


class MovingReference(TrainerCallback):
    """Keep the reference's values of the weights that are trained; the other weights are the policy's.

    Args:
        policy: The model as it starts, which is also the reference.
        every: Optimiser steps between two moves.
        weight: Share ``a`` of the policy: the reference becomes ``a * policy + (1 - a) * reference``.
        resume_from: The checkpoint that the training goes on from; None for a new one.

    Attributes:
        has_moved: Whether it differs from the start.

    Raises:
        SmaugError: the checkpoint has no weights of the reference.
    """

    def __init__(self, policy: nn.Module, every: int, weight: float, resume_from: Path | None = None) -> None:
        self._policy, self._every, self._weight = policy, every, weight
        self._own = {name: value.detach().clone() for name, value in policy.named_parameters() if value.requires_grad}
        self.has_moved = False
        if resume_from is not None:
            self._load(resume_from / FILE)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move after every so many steps."""
        if state.global_step % self._every == 0:
            with torch.no_grad():
                for name, value in self._trained():
                    self._own[name].lerp_(value.detach().to(self._own[name]), self._weight)
            self.has_moved = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put the weights into the checkpoint that was just saved."""
        if state.is_world_process_zero:
            place = Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE
            weights = {name: value.contiguous().cpu() for name, value in self._own.items()}
            save_file(weights, place, {_MOVED: str(int(self.has_moved))})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the reference's weights into the policy for a while, in evaluation mode and without gradients."""
        was_training = self._policy.training
        self._policy.eval()
        self._swap()
        try:
            with torch.no_grad():
                yield
        finally:
            self._swap()
            self._policy.train(was_training)

    def _swap(self) -> None:
        for name, value in self._trained():
            value.data, self._own[name] = self._own[name], value.data

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, value) for name, value in self._policy.named_parameters() if name in self._own)

    def _load(self, file: Path) -> None:
        try:
            saved: dict[str, Tensor] = load_file(file)
        except (OSError, ValueError) as error:
            raise SmaugError(
                f"{file}: the weights of the moving reference are gone",
                fix=f"remove {file.parent.parent} to start again",
            ) from error
        from safetensors import safe_open

        with safe_open(file, framework="pt") as opened:
            self.has_moved = (opened.metadata() or {}).get(_MOVED) == "1"
        self._own = {name: saved[name].to(value) for name, value in self._own.items()}
