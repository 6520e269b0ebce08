"""Check which evaluations score a training's checkpoints, and that the best is chosen by none that is reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from smaug_eval.common.files import canonical_json
from smaug_eval.common.suggest import nearest
from smaug_eval.engines.registry import ENGINES
from smaug_eval.trainers.config import TrainingConfig


class ScoringEntry(Protocol):
    """Describe an evaluation of a recipe, as far as it matters here."""

    @property
    def development(self) -> bool:
        """Return whether it stands in no table."""
        ...

    @property
    def engine(self) -> str:
        """Return the name of what scores."""
        ...

    @property
    def tasks(self) -> list[str] | None:
        """Return the names of its tasks; None for all of its suite."""
        ...


def check_checkpoint_evaluations(
    trainings: Mapping[str, TrainingConfig], evaluations: Mapping[str, ScoringEntry]
) -> None:
    """Check that checkpoints are scored by evaluations that there are, and chosen by a development evaluation.

    Raises:
        ValueError: there is no such evaluation, or it asks a server, the best would be chosen by a reported one, or a
            development evaluation is for no training.
    """
    used: set[str] = set()
    for name, training in trainings.items():
        if training.evaluate is None:
            continue
        key = f"trainings.{name}"
        for each in training.evaluate.evaluations:
            if each not in evaluations:
                raise ValueError(f"{key}.evaluate.evaluations: no evaluation {each!r}{nearest(each, evaluations)}")
            if (engine := evaluations[each].engine) in ENGINES and ENGINES[engine].is_served:
                raise ValueError(
                    f"{key}.evaluate.evaluations: {each!r} asks a server ({engine}), which has no checkpoint of this "
                    "run: name an evaluation with another engine"
                )
        used.update(training.evaluate.evaluations)
        if (chosen := training.chosen_by) is not None:
            _check_choice(key, training.keep_metric, chosen[0], evaluations)
    idle = [name for name, each in evaluations.items() if each.development and name not in used]
    if idle and trainings:
        raise ValueError(
            f"evaluations.{idle[0]}.development: it scores checkpoints alone, and no training names it in evaluate"
        )
    if idle:
        raise ValueError(f"evaluations.{idle[0]}.development: it scores checkpoints of trainings, and there are none")


Documents = Mapping[str, Sequence[Mapping[str, Any]]]
_LEAST = 12
"""Characters of a text from which on two documents are not alike by chance."""


def shared_document(one: Documents, other: Documents) -> tuple[str, str] | None:
    """Return the tasks in which two evaluations score the same document; None where they score none.

    Suites keep other columns of the same rows, so documents are the same where the texts of one are among those of the
    other; rows without texts of some length, where they are equal.
    """
    by_text: dict[str, list[tuple[str, frozenset[str]]]] = {}
    for task, rows in other.items():
        for row in rows:
            texts = _texts_of(row)
            for text in texts:
                by_text.setdefault(text, []).append((task, texts))
    for task, rows in one.items():
        for row in rows:
            texts = _texts_of(row)
            for theirs, found in by_text.get(max(texts, key=len), ()):
                if texts <= found or found <= texts:
                    return task, theirs
    return None


def _texts_of(row: Mapping[str, Any]) -> frozenset[str]:
    """The texts of a document that are long enough to tell it; all of it as one text where there are none."""
    found: set[str] = set()
    left: list[Any] = list(row.values())
    while left:
        value = left.pop()
        if isinstance(value, str):
            found.add(" ".join(value.split()))
        elif isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
    long = frozenset(text for text in found if len(text) >= _LEAST)
    return long or frozenset([canonical_json(row)])


def _check_choice(key: str, metric: str, name: str, evaluations: Mapping[str, ScoringEntry]) -> None:
    chooser = evaluations[name]
    if not chooser.development:
        raise ValueError(
            f"{key}.keep_metric = {metric!r}: evaluations.{name} is reported, and its scores would be too high for a "
            "checkpoint that was chosen by them; choose by an evaluation of other documents with development: true"
        )
