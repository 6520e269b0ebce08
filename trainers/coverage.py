"""Describe which of a model's weights a LoRA adapter adapts. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

LANGUAGE, EXPERTS, ROUTER, VISION, AUDIO = "language", "experts", "router", "vision", "audio"
ADAPTED, PARTLY, LEFT_OUT, NONE = "adapted", "partly adapted", "left out", "none"
STATES = (ADAPTED, PARTLY, LEFT_OUT, NONE)
_MOST = 1 << 60


@dataclass(frozen=True)
class LoraCoverage:
    """Hold what an adapter adapts; the same values are in ``summary.json`` under ``lora``.

    A part of the model is ``adapted`` where every matrix of it has an adapter, ``partly adapted`` where some have one,
    ``left out`` where none has, and ``none`` where the model has no such part.

    Attributes:
        adapted_weights: Weights of the base that have an adapter.
        all_weights: Weights of the base; shared ones count once.
        experts: State of the experts of a mixture, without those that every token passes.
        router: State of what chooses the experts.
        vision: State of the vision tower, with what connects it to the language model.
        audio: State of the audio tower, likewise.
        expert_weights: Weights of the experts.
        fused_experts: Whether the experts are parameters of their own rather than linear layers.
        excluded: Modules that ``all-linear`` left out because text does not pass them.
    """

    adapted_weights: int
    all_weights: int
    experts: str = NONE
    router: str = NONE
    vision: str = NONE
    audio: str = NONE
    expert_weights: int = 0
    fused_experts: bool = False
    excluded: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        return {**asdict(self), "excluded": list(self.excluded)}

    def describe(self) -> str:
        """Describe one line for the user."""
        experts = self.experts
        if self.experts != NONE:
            experts += f" ({_share(self.expert_weights, self.all_weights)} of the weights)"
        if self.router in (ADAPTED, PARTLY):
            experts += ", router adapted"
        audio = "" if self.audio == NONE else f"; audio tower: {self.audio}"
        share = _share(self.adapted_weights, self.all_weights)
        return (
            f"LoRA adapts {self.adapted_weights:,} of {self.all_weights:,} weights ({share}); "
            f"experts: {experts}; vision tower: {self.vision}{audio}"
        )

    def warnings(self) -> list[str]:
        """Return what a reader of the numbers must know."""
        share = _share(self.expert_weights, self.all_weights)
        found = []
        if self.experts == LEFT_OUT:
            why = "they are fused parameters, not linear layers" if self.fused_experts else "no target module is theirs"
            found.append(f"LoRA leaves out the experts, {share} of the weights: {why}")
        elif self.experts == PARTLY:
            found.append(f"LoRA adapts only a part of the experts, which are {share} of the weights")
        towers = [
            name for name, state in (("vision", self.vision), ("audio", self.audio)) if state in (ADAPTED, PARTLY)
        ]
        if towers:
            found.append(
                f"LoRA adapts the {' and '.join(towers)} tower, which text does not train, and vLLM refuses such an "
                "adapter; lora.target_modules all-linear leaves it out"
            )
        return found


def coverage_line(found: object) -> str | None:
    """Return :meth:`LoraCoverage.describe` of what a summary holds; None where that is nothing of the kind."""
    if not isinstance(found, Mapping):
        return None
    counts = {name: found.get(name) for name in ("adapted_weights", "all_weights", "expert_weights")}
    states = {name: found.get(name, NONE) for name in (EXPERTS, ROUTER, VISION, AUDIO)}
    if not all(isinstance(count, int) and 0 <= count < _MOST for count in counts.values()):
        return None
    if not all(state in STATES for state in states.values()):
        return None
    values: dict[str, Any] = {**counts, **states}
    return LoraCoverage(**values).describe()


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "0%"
