"""Read what a training starts from and is compared with, where that is another training of the recipe."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from smaug_eval.common.embedded import PREFIX
from smaug_eval.common.suggest import nearest
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.study_names import BASE

START = "start"
"""As a ``reference``: what the training starts from."""
ADAPTER = "adapter"
Part = Literal["start", "reference"]
Trainings = Mapping[str, TrainingConfig]


@dataclass(frozen=True)
class TrainedPart:
    """Name a result of another training.

    Attributes:
        training: Name of the training.
        is_adapter: Whether its adapter beside its own start is meant, rather than its checkpoint.
    """

    training: str
    is_adapter: bool


def trained_part(value: str | None, trainings: Collection[str]) -> TrainedPart | None:
    """Return the training that ``start`` or ``reference`` names, as ``NAME`` or ``NAME/adapter``; None for others."""
    name, _, part = (value or "").partition("/")
    return TrainedPart(name, bool(part)) if name in trainings and part in ("", ADAPTER) else None


def parents(name: str, trainings: Trainings) -> list[str]:
    """Return the trainings that must be done before one: those that its start and its reference name."""
    config = trainings[name]
    found = [trained_part(value, trainings) for value in (config.start, config.reference)]
    return list(dict.fromkeys(part.training for part in found if part is not None))


def ancestors(name: str, trainings: Trainings) -> list[str]:
    """Return the trainings whose weights a training goes on from, the nearest first."""
    found: list[str] = []
    part = trained_part(trainings[name].start, trainings)
    while part is not None and part.training not in found:
        found.append(part.training)
        part = trained_part(trainings[part.training].start, trainings)
    return found


def check_origins(trainings: Trainings) -> None:
    """Check what every training starts from and is compared with, as far as the recipe alone can tell.

    Raises:
        ValueError: there is no such training, it has no adapter, or two trainings wait for each other.
    """
    for name, config in trainings.items():
        for key, value in (("start", config.start), ("reference", config.reference)):
            if value is not None:
                _check_value(f"trainings.{name}.{key}", value, trainings)
        for path in _paths(name, trainings, (name,)):
            raise ValueError(f"trainings.{name}.start: it waits for itself: {' <- '.join(path)}")


def _check_value(key: str, value: str, trainings: Trainings) -> None:
    if value == BASE or (value == START and key.endswith(".reference")):
        return
    part = trained_part(value, trainings)
    if part is not None:
        if part.is_adapter and trainings[part.training].lora is None:
            raise ValueError(f"{key} = {value!r}: training {part.training!r} has no lora, so no adapter")
    elif not value.startswith((".", "~", PREFIX)) and "/" not in value:
        raise ValueError(
            f"{key} = {value!r}: no such training{nearest(value, trainings)}; write ./{value} for a folder, or "
            "organisation/model for a model of the Hub"
        )


def _paths(name: str, trainings: Trainings, before: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The ways from a training through those it needs that end where they began."""
    for parent in parents(name, trainings):
        if parent == before[0]:
            yield (*before, parent)
        elif parent not in before:
            yield from _paths(parent, trainings, (*before, parent))
