"""Describe how a model thinks and samples. Free of heavy imports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ThinkingRule:
    """Describe how reasoning is told from an answer.

    Attributes:
        end: Text that ends the reasoning.
        start: Text that begins it; None for ``end`` without its slash.
        max_tokens: Tokens of reasoning that a model may write before its answer.
    """

    end: str
    max_tokens: int
    start: str | None = None


@dataclass(frozen=True)
class SamplingRule:
    """Describe how answers are drawn.

    Attributes:
        temperature: Above 0.
        top_p: Share of the distribution that tokens are drawn from; 1 for all of it.
        seed: Of the drawing.
    """

    temperature: float
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Decoding:
    """Describe how a model writes its answers, where that is not greedily and at once.

    Attributes:
        thinking: How reasoning is taken away; None where it is scored.
        sampling: How answers are drawn; None for the task's own way.
        repeats: Times that each document is answered.
    """

    thinking: ThinkingRule | None = None
    sampling: SamplingRule | None = None
    repeats: int = 1
