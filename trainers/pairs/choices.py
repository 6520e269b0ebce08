"""Build pairs of a right and a wrong choice: ARC_DPO_FewShot and HellaSwag_DPO_FewShot of arXiv 2402.13228.

The correct choice of a question stands against each wrong one in turn, one pair each, in the wording in which the
leaderboard shows the question.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.benchmarks import hellaswag as hellaswag_benchmark
from smaug_eval.leaderboard.forms import question as question_prompt
from smaug_eval.trainers.pairs.checks import FIX_ROW, checked_object, checked_text, checked_texts, kind_of
from smaug_eval.trainers.pairs.config import ArcPairs, HellaSwagPairs
from smaug_eval.trainers.pairs.examples import Problem, pairs_of
from smaug_eval.trainers.pairs.pair import PairSet

ARC_COLUMNS = ("question", "choices", "answerKey")
HELLASWAG_COLUMNS = ("activity_label", "ctx_a", "ctx_b", "endings", "label")


@dataclass(frozen=True)
class ChoiceProblem(Problem):
    """Hold a question with its correct choice and the wrong ones that differ from it and from each other."""

    correct: str
    wrong: tuple[str, ...]

    @property
    def solved(self) -> str:
        """Return the question with its correct choice, as an example for a prompt."""
        return f"{self.prompt} {self.correct}"

    @property
    def pairs(self) -> int:
        """Return one for each wrong choice."""
        return len(self.wrong)

    def completions(self, rng: random.Random) -> list[tuple[str, str]]:
        """Return the correct choice against each wrong one, in the row's order."""
        return [(f" {self.correct}", f" {wrong}") for wrong in self.wrong]


@dataclass(frozen=True)
class Choices:
    """Hold a row's question and choices.

    Attributes:
        question: What identifies the question.
        prompt: The question as the leaderboard shows it.
        choices: Every choice.
        gold: Index of the correct one; None where the row does not say, or names none of them.
    """

    question: str
    prompt: str
    choices: Sequence[str]
    gold: int | None


def arc_pairs(config: ArcPairs, *, data_root: Path | None) -> PairSet:
    """Build the pairs of an ARC file or split (``question``, ``choices``, ``answerKey``).

    Raises:
        SmaugError: a row is broken, or there are fewer rows than the prompts need solved examples.
    """
    return pairs_of(config, data_root=data_root, read=lambda rows, dropped: _problems(rows, arc_choices, dropped))


def hellaswag_pairs(config: HellaSwagPairs, *, data_root: Path | None) -> PairSet:
    """Build the pairs of a HellaSwag file or split (``activity_label``, ``ctx_a``, ``ctx_b``, ``endings``, ``label``).

    Raises:
        SmaugError: a row is broken, or there are fewer rows than the prompts need solved examples.
    """
    return pairs_of(config, data_root=data_root, read=lambda rows, dropped: _problems(rows, hellaswag_choices, dropped))


def arc_choices(where: str, row: Any) -> Choices:
    """Return an ARC row; a few number their choices 1-5 instead of A-E.

    Raises:
        SmaugError: a column is missing or of another kind, or texts and labels differ in number.
    """
    columns = checked_object(where, row, ARC_COLUMNS)
    question = checked_text(where, "question", columns["question"])
    key = checked_text(where, "answerKey", columns["answerKey"])
    choices = columns["choices"]
    if not isinstance(choices, dict) or not {"text", "label"} <= choices.keys():
        raise SmaugError(f"{where}: choices is {kind_of(choices)} without text and label", fix=FIX_ROW)
    texts, labels = (checked_texts(where, f"choices.{name}", choices[name]) for name in ("text", "label"))
    if len(texts) != len(labels):
        raise SmaugError(f"{where}: choices has {len(texts)} texts but {len(labels)} labels", fix=FIX_ROW)
    gold = labels.index(key) if labels.count(key) == 1 else None
    return Choices(question.strip(), question_prompt({"question": question}), texts, gold)


def hellaswag_choices(where: str, row: Any) -> Choices:
    """Return a HellaSwag row; the rows of its test split have an empty label.

    Raises:
        SmaugError: a column is missing or of another kind.
    """
    columns = checked_object(where, row, HELLASWAG_COLUMNS)
    texts = {name: checked_text(where, name, columns[name]) for name in ("activity_label", "ctx_a", "ctx_b")}
    endings = [hellaswag_benchmark.clean(ending) for ending in checked_texts(where, "endings", columns["endings"])]
    label = columns["label"]
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise SmaugError(f"{where}: label is {kind_of(label)}, not a choice's number", fix=FIX_ROW)
    gold = next((index for index in range(len(endings)) if str(index) == str(label)), None)
    prompt = hellaswag_benchmark.query(texts)
    return Choices(prompt, prompt, endings, gold)


def _problems(
    rows: Sequence[tuple[str, Any]], read: Callable[[str, Any], Choices], dropped: Counter[str]
) -> list[ChoiceProblem]:
    problems: dict[tuple[str, str, tuple[str, ...]], ChoiceProblem] = {}
    for index, (where, row) in enumerate(rows):
        asked = read(where, row)
        if not asked.question.strip():
            raise SmaugError(f"{where}: the question is empty", fix=FIX_ROW)
        if asked.gold is None or not asked.choices[asked.gold].strip():
            dropped["no_correct_choice"] += 1
            continue
        correct = asked.choices[asked.gold]
        wrong = _wrong_choices(asked, asked.gold, dropped)
        if (asked.prompt, correct, wrong) in problems:
            dropped["duplicate_question"] += 1
        else:
            problem = ChoiceProblem(index, asked.question, asked.prompt, correct, wrong)
            problems[asked.prompt, correct, wrong] = problem
    return list(problems.values())


def _wrong_choices(asked: Choices, gold: int, dropped: Counter[str]) -> tuple[str, ...]:
    """The wrong choices that make a pair: not empty, not the correct text, each text once."""
    wrong: dict[str, str] = {}
    for index, choice in enumerate(asked.choices):
        text = choice.strip()
        if index == gold:
            continue
        if not text:
            dropped["empty_choice"] += 1
        elif text == asked.choices[gold].strip():
            dropped["choice_equals_the_correct_one"] += 1
        elif text in wrong:
            dropped["duplicate_choice"] += 1
        else:
            wrong[text] = choice
    return tuple(wrong.values())
