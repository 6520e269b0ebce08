"""Name the trainings of a study, and the parts that they play in its questions. Free of the trainings' settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

BASE = "base"
"""The model before training; ``questions.before`` may name it."""


class Questions(BaseModel):
    """Define which arm and which pair set plays which part in the study's questions."""

    model_config = ConfigDict(extra="forbid")

    subject: str = Field("dpo", description="The arm in question: does it lower the preferred answers?")
    remedy: str = Field("dpop", description="The arm that is to prevent it.")
    before: str = Field(BASE, description=f"What lower is measured against: {BASE}, or an arm.")
    low: str = Field("low", description="The pair set with the smallest edit distance.")
    high: str = Field("high", description="A pair set with a large edit distance.")
    curve: list[str] = Field(
        default_factory=list, description="Pair sets of the same problems at several edit distances."
    )

    @field_validator("curve")
    @classmethod
    def _curve_once(cls, value: list[str]) -> list[str]:
        return once(value)


def training_name(arm: str, pair_set: str, seed: int) -> str:
    """Return the name of one training of a study."""
    return f"{arm}.{pair_set}.s{seed}"


def parsed_name(name: str, arms: Sequence[str], pair_sets: Sequence[str]) -> tuple[str, str, int] | None:
    """Parse a name that :func:`training_name` made into arm, set and seed; None if it is none.

    Arms and sets may have dots in their names, so those that there are must be given.
    """
    for arm in arms:
        for pair_set in pair_sets:
            prefix = f"{arm}.{pair_set}.s"
            if name.startswith(prefix) and name[len(prefix) :].isdecimal():
                return arm, pair_set, int(name[len(prefix) :])
    return None


def once(values: Sequence[Any]) -> list[Any]:
    """Return the values.

    Raises:
        ValueError: one is given twice.
    """
    for value in values:
        if list(values).count(value) > 1:
            raise ValueError(f"{value!r} is given twice")
    return list(values)
