"""Place a model on the GPUs of a machine: what it computes in and how fast, and whether a stage fits there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smaug_eval.planning.machines import Machine
from smaug_eval.planning.plans import StagePlan
from smaug_eval.planning.shapes import ModelShape

_HOUR = 3600.0


@dataclass(frozen=True)
class Placement:
    """Describe a model on a machine.

    Attributes:
        shape: The model's sizes.
        wanted: The recipe's ``dtype``; ``auto`` for the one that the model is stored in.
        machine: The GPUs.
        utilisation: Share of the peak FLOP/s that is reached.
    """

    shape: ModelShape
    wanted: str
    machine: Machine
    utilisation: float

    @property
    def dtype(self) -> str:
        """Return what the model computes in."""
        return self.shape.dtype if self.wanted == "auto" else self.wanted

    @property
    def flops(self) -> float:
        """Return the FLOP/s of one GPU."""
        return self.machine.gpu.flops * self.utilisation

    def stage(
        self,
        name: str,
        tokens: Sequence[float],
        seconds: Sequence[float],
        gpus: int,
        parts: Mapping[str, float],
        total: float,
    ) -> StagePlan:
        """Return the plan of a stage.

        Args:
            name: The stage's.
            tokens: Tokens that go through the model, with prefix sharing and without.
            seconds: The time, likewise.
            gpus: GPUs that compute at a time.
            parts: Bytes on the fullest GPU by purpose.
            total: The most of them at a time.
        """
        fits = total <= self.machine.usable
        short = f"{total / 1e9:,.1f} GB a GPU, and {self.machine.usable / 1e9:,.1f} GB of it may be filled"
        return StagePlan(
            name=name,
            tokens=tokens[0],
            tokens_unshared=tokens[1],
            gpus=gpus,
            hours=seconds[0] / _HOUR,
            hours_unshared=seconds[1] / _HOUR,
            memory=dict(parts),
            memory_total=total,
            fits=fits,
            problems=[] if fits else [f"needs {short}"],
            changes=[],
        )
