"""Read a study's run directory: its arms, its questions, and what each training did to the held-out pairs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from smaug_eval.common.errors import SmaugError
from smaug_eval.results.json_files import json_lines
from smaug_eval.results.layout import MANIFEST, TRAININGS
from smaug_eval.results.sources import Source
from smaug_eval.results.task_results import TaskResult
from smaug_eval.results.trainings import Training
from smaug_eval.stats import Values, table_of
from smaug_eval.trainers.layout import HELD_OUT_FILE, HeldOutLine, LabelledLine
from smaug_eval.trainers.study_names import BASE, Questions, parsed_name

_REPEATED = re.compile(r"-\d+$")
"""What a run puts behind the name of a pair whose problem and preferred answer another pair has, too."""
_SETTINGS = ("loss", "beta", "lambda", "learning_rate", "steps", "batch_size")


class HeldOutPair(NamedTuple):
    """Hold what a training did to one held-out pair; log-ratios to the reference in nats, summed over tokens.

    A single completion with a label is a pair of which all else is not a number: a desirable one has ``chosen``,
    another ``rejected``.

    Attributes:
        edit_distance: Tokens to change over the longer answer's length.
        edits: Tokens to change.
        chosen_tokens: Tokens of the preferred answer.
        common: Tokens before the first that differs.
        chosen: Log-ratio of the preferred answer.
        rejected: Log-ratio of the rejected answer.
        chosen_before: The part of ``chosen`` before the first token that differs.
        chosen_at: The part at it; 0 where the preferred answer ends there.
        chosen_after: The part after it.
    """

    edit_distance: float
    edits: float
    chosen_tokens: float
    common: float
    chosen: float
    rejected: float
    chosen_before: float
    chosen_at: float
    chosen_after: float


Quantity = Callable[[HeldOutPair], float]


@dataclass(frozen=True)
class StudyTraining:
    """Hold one training of the grid.

    Attributes:
        arm: The way it was trained.
        pair_set: The pairs it was trained on.
        seed: Of the order of the pairs.
        training: Its log, summary and diagnostics.
        held_out: Item (a problem with its preferred answer, or a single completion) to what became of it. Pairs that
            share both, as the wrong choices of one question do, are one item, the mean: their preferred answer moved
            but once.
    """

    arm: str
    pair_set: str
    seed: int
    training: Training
    held_out: Mapping[str, HeldOutPair]

    @property
    def name(self) -> str:
        """Return the training's name."""
        return self.training.name

    def having(self, quantity: Quantity) -> dict[str, float]:
        """Return a quantity by item; those that do not have it are left out."""
        values = {item: quantity(pair) for item, pair in self.held_out.items()}
        return {item: value for item, value in values.items() if not math.isnan(value)}


class Measured(NamedTuple):
    """Hold a quantity over the items of which all seeds of an arm have it: ``values[i, s]`` of ``items[i]``."""

    items: tuple[str, ...]
    values: Values

    def on(self, items: Sequence[str]) -> Values:
        """Return the rows of ``items``, in their order."""
        places = {item: place for place, item in enumerate(self.items)}
        rows: Values = self.values[[places[item] for item in items]]
        return rows


@dataclass(frozen=True, eq=False)
class StudyResults:
    """Hold a study as far as it has run.

    Attributes:
        questions: Who plays which part.
        arms: Arm to the settings that tell it from others.
        trainings: What is there, arm by arm.
        planned: Names of all trainings of the grid.
        results: Model to task to result, for every model that was evaluated.
    """

    questions: Questions
    arms: Mapping[str, Mapping[str, Any]]
    trainings: Sequence[StudyTraining]
    planned: Sequence[str]
    results: Mapping[str, Mapping[str, TaskResult]]

    @property
    def pair_sets(self) -> list[str]:
        """List the sets that something was trained on."""
        return list(dict.fromkeys(each.pair_set for each in self.trainings))

    @property
    def missing(self) -> list[str]:
        """List the trainings that have not left what they did to the held-out pairs."""
        there = {each.name for each in self.trainings if each.held_out}
        return [name for name in self.planned if name not in there]

    def of(self, arm: str, pair_set: str) -> list[StudyTraining]:
        """Return the trainings of an arm on a set by seed."""
        found = (each for each in self.trainings if (each.arm, each.pair_set) == (arm, pair_set))
        return sorted(found, key=lambda each: each.seed)

    def arms_on(self, pair_set: str) -> list[str]:
        """List the arms with held-out rows of a set: the subject, the remedy, then others in the recipe's order."""
        first = (self.questions.subject, self.questions.remedy)
        return [name for name in dict.fromkeys([*first, *self.arms]) if self.was_measured(name, pair_set)]

    def measured(self, arm: str, pair_set: str, quantity: Quantity) -> Measured | None:
        """Return a quantity of an arm's trainings on a set; None where nothing was measured that has it."""
        found = [each.having(quantity) for each in self.of(arm, pair_set) if each.held_out]
        items = sorted(set.intersection(*(set(each) for each in found))) if found else []
        return Measured(tuple(items), table_of(found, items)) if items else None

    def mean(self, arm: str, pair_set: str, quantity: Quantity) -> float | None:
        """Return the mean of a quantity over items and seeds."""
        found = self.measured(arm, pair_set, quantity)
        return None if found is None else float(found.values.mean())

    def was_measured(self, arm: str, pair_set: str) -> bool:
        """Return whether a training of an arm on a set has left what it did, so that what is None does not exist."""
        return any(each.held_out for each in self.of(arm, pair_set))

    def variants(self, arm: str) -> list[str]:
        """List the other arms with the same loss."""
        loss = self.arms.get(arm, {}).get("loss")
        return [name for name, settings in self.arms.items() if name != arm and settings.get("loss") == loss]


def chosen(pair: HeldOutPair) -> float:
    """Return the log-ratio of the preferred answer."""
    return pair.chosen


def margin(pair: HeldOutPair) -> float:
    """Return how much further the preferred answer moved than the rejected one: the margin that the losses grow."""
    return pair.chosen - pair.rejected


def ranked_first(pair: HeldOutPair) -> float:
    """Return whether the margin grew."""
    return _share(margin(pair) > 0, margin(pair))


def below(pair: HeldOutPair) -> float:
    """Return whether the preferred answer is less likely than under the reference."""
    return _share(pair.chosen < 0, pair.chosen)


def per_edit(pair: HeldOutPair) -> float:
    """Return the log-ratio of the preferred answer by each token that differs."""
    return pair.chosen / (1.0 if pair.edits < 1 else pair.edits)


def rejected(pair: HeldOutPair) -> float:
    """Return the log-ratio of the rejected answer."""
    return pair.rejected


def read_study(source: Source) -> StudyResults | None:
    """Read the study of a run directory; None where its manifest has none.

    Raises:
        SmaugError: a line of a training's held-out pairs or completions lacks a key or holds something else than a
            number.
    """
    recipe = _mapping((source.manifest or {}).get("recipe"))
    section = _mapping(recipe.get("study"))
    arms = {str(name): _mapping(settings) for name, settings in _mapping(section.get("arms")).items()}
    if not arms or source.folder is None:
        return None
    pair_sets = list(_mapping(recipe.get("pairs")))
    parts = {
        name: parsed
        for name in [*_mapping(recipe.get("trainings")), *(each.name for each in source.trainings)]
        if (parsed := parsed_name(name, list(arms), pair_sets))
    }
    trainings = []
    for each in source.trainings:
        if each.name in parts:
            file = source.folder / TRAININGS / each.name / HELD_OUT_FILE
            lines = json_lines(file) if file.is_file() else iter(())
            trainings.append(StudyTraining(*parts[each.name], each, _held_out(lines, str(file))))
    order = list(arms)
    shared = _mapping(section.get("training"))
    return StudyResults(
        questions=_questions(section.get("questions"), source),
        arms={name: _settings({**shared, **settings}) for name, settings in arms.items()},
        trainings=sorted(
            trainings, key=lambda each: (order.index(each.arm), pair_sets.index(each.pair_set), each.seed)
        ),
        planned=list(parts),
        results=source.results,
    )


def selection(source: Source, study: StudyResults, baseline: str | None) -> Source:
    """Select one training of each arm of the questions, for panels that show models side by side.

    Args:
        source: The study's.
        study: The study.
        baseline: A model that is to stay; None for none.
    """
    asked = study.questions
    arms = (asked.subject, asked.remedy, *([asked.before] if asked.before != BASE else []))
    kept = {found[0].name for arm in arms if (found := study.of(arm, asked.low))}
    kept |= {BASE} | ({baseline} if baseline else set())
    return replace(
        source,
        trainings=[each for each in source.trainings if each.name in kept],
        results={name: results for name, results in source.results.items() if name in kept},
        missing=_brief(source.missing),
    )


_MISSING_SHOWN = 8


def _brief(texts: Sequence[str]) -> list[str]:
    more = len(texts) - _MISSING_SHOWN
    return [*texts[:_MISSING_SHOWN], *([f"and {more:,} more of this kind"] if more > 0 else [])]


def _questions(given: object, source: Source) -> Questions:
    try:
        return Questions.model_validate(given or {})
    except ValidationError as error:
        first = error.errors()[0]
        place = f"{source.folder}/{MANIFEST}: study.questions.{'.'.join(map(str, first['loc']))}"
        raise SmaugError(f"{place}: {first['msg']}", fix="correct the recipe and run it again") from None


def _settings(arm: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: arm[key] for key in _SETTINGS if arm.get(key) is not None}


def _held_out(lines: Iterator[Mapping[str, Any]], where: str) -> dict[str, HeldOutPair]:
    found: dict[str, list[tuple[float, ...]]] = {}
    singles: dict[str, HeldOutPair] = {}
    for number, line in enumerate(lines, start=1):
        place = f"{where}, line {number}"
        if "label" in line:
            single = LabelledLine.from_json(line, place)
            if not single.in_pair:
                singles.update([_single(single)])
            continue
        read = HeldOutLine.from_json(line, place)
        values = tuple(float(getattr(read, name) or 0.0) for name in HeldOutPair._fields)
        found.setdefault(_REPEATED.sub("", read.pair), []).append(values)
    return singles | {item: HeldOutPair(*map(float, np.mean(rows, axis=0))) for item, rows in found.items()}


def _single(line: LabelledLine) -> tuple[str, HeldOutPair]:
    """A single completion as an item; a desirable one has the name of the pair whose preferred answer it is."""
    nothing = HeldOutPair(*[math.nan] * len(HeldOutPair._fields))
    if not line.label:
        return f"{line.completion} undesirable", nothing._replace(rejected=line.log_ratio)
    return _REPEATED.sub("", line.completion), nothing._replace(chosen=line.log_ratio, chosen_tokens=line.tokens)


def _share(holds: bool, of: float) -> float:
    """1 or 0; not a number where that is not known."""
    return of if math.isnan(of) else float(holds)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
