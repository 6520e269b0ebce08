"""Generate the demo world's text: the task data, and the endless stream of documents the base model reads.

The stream shows every task in its own form, solved and with any number of examples, and states the facts in plain
sentences. Nothing that a test asks is in it (see the tests of this package).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from smaug_eval.demo import arithmetic, beliefs, facts, stories
from smaug_eval.demo.arithmetic import Writer
from smaug_eval.leaderboard import forms
from smaug_eval.leaderboard.benchmarks import arc, gsm8k, hellaswag, mmlu, winogrande

Row = dict[str, Any]

N_ARITHMETIC_TRAIN, N_ARITHMETIC_DEVELOPMENT, N_ARITHMETIC_TEST = 1500, 300, 200
N_ENDINGS_TRAIN = 200
N_PRONOUNS_TRAIN, N_PRONOUNS_TEST = 200, 150
N_FACTS_TRAIN = 150
N_DEV_SHOTS = 5
CHOICE_SETS_PER_FACT = 2
SURE_SHARE = 0.55
"""Share of the development problems that the base model shall be sure to have read no wrong products of."""
SLIP_SHARE = 0.7
"""Share of the larger products that are wrong in the careless text: more than half, so that the base repeats them."""


@dataclass(frozen=True)
class TaskData:
    """Hold one task's rows by split, in its benchmark's columns, and the text in front of its prompts if any."""

    splits: dict[str, list[Row]]
    preamble: str | None = None


@lru_cache
def task_data() -> dict[str, TaskData]:
    """Return the data of the six tasks; the same at every call."""
    return {
        "demo_facts": _facts_data(),
        "demo_endings": _endings_data(),
        "demo_subjects": _subjects_data(),
        "demo_truth": TaskData({"test": [belief.row for belief in beliefs.TESTED_BELIEFS]}, beliefs.preamble()),
        "demo_pronouns": _pronouns_data(),
        "demo_arithmetic": _arithmetic_data(),
    }


def _facts_data() -> TaskData:
    rng = random.Random("demo_facts")
    parts = {"train": facts.ASKED.train[:N_FACTS_TRAIN], "test": facts.ASKED.test}
    return TaskData({name: [fact.arc_row(rng, i) for i, fact in enumerate(part)] for name, part in parts.items()})


def _subjects_data() -> TaskData:
    rng = random.Random("demo_subjects")
    dev, test = [], []
    for split in facts.QUIZZED.values():
        dev += [fact.mmlu_row(rng) for fact in split.train[:N_DEV_SHOTS]]
        for fact in split.test:
            test += _different(partial(fact.mmlu_row, rng), "choices", CHOICE_SETS_PER_FACT)
    return TaskData({"dev": dev, "test": test})


def _endings_data() -> TaskData:
    rng = random.Random("demo_endings")
    train = [stories.TRAIN_STORIES.draw(rng).row(rng, number) for number in range(N_ENDINGS_TRAIN)]
    tested = stories.TEST_STORIES
    told: list[stories.Scene | stories.Routine] = [*tested.scenes, *tested.routines]
    test = [story.row(rng, number) for number, story in enumerate(told)]
    return TaskData({"train": train, "test": test})


def _pronouns_data() -> TaskData:
    rng = random.Random("demo_pronouns")
    return TaskData(
        {
            "train": _different(partial(stories.TRAIN_CASTS.row, rng), "sentence", N_PRONOUNS_TRAIN),
            "test": _different(partial(stories.TEST_CASTS.row, rng), "sentence", N_PRONOUNS_TEST),
        }
    )


def _different(draw: Callable[[], Row], key: str, count: int) -> list[Row]:
    """Draw until ``count`` rows differ in the column ``key``."""
    rows: list[Row] = []
    while len(rows) < count:
        row = draw()
        if all(row[key] != other[key] for other in rows):
            rows.append(row)
    return rows


def _arithmetic_data() -> TaskData:
    test = arithmetic.problems("demo_arithmetic test", N_ARITHMETIC_TEST)
    train = arithmetic.problems("demo_arithmetic train", N_ARITHMETIC_TRAIN, excluded=_questions(test))
    splits = {"train": train, "development": list(development_problems()), "test": test}
    return TaskData({name: [problem.row for problem in problems] for name, problems in splits.items()})


def _questions(problems: Iterable[arithmetic.WordProblem]) -> frozenset[str]:
    return frozenset(problem.question for problem in problems)


@lru_cache
def development_problems() -> tuple[arithmetic.WordProblem, ...]:
    """Return the problems on which everything is chosen, so that the test problems need not be looked at."""
    test = arithmetic.problems("demo_arithmetic test", N_ARITHMETIC_TEST)
    train = arithmetic.problems("demo_arithmetic train", N_ARITHMETIC_TRAIN, excluded=_questions(test))
    excluded = _questions([*test, *train])
    return tuple(arithmetic.problems("demo_arithmetic development", N_ARITHMETIC_DEVELOPMENT, excluded=excluded))


@lru_cache
def tested_questions() -> frozenset[str]:
    """Return the arithmetic questions that the training text must not contain."""
    splits = task_data()["demo_arithmetic"].splits
    return frozenset(row["question"] for name in ("development", "test") for row in splits[name])


@lru_cache
def largest_sure_product() -> int:
    """Return the largest product that the careless text always states rightly.

    The rule looks at the development problems alone and was fixed before any training: the share of them that need no
    larger product is the one nearest to :data:`SURE_SHARE`.
    """
    largest = [problem.largest_product for problem in development_problems()]

    def distance(product: int) -> float:
        return abs(sum(each <= product for each in largest) / len(largest) - SURE_SHARE)

    return min(sorted({product for product in largest if product}), key=distance)


def careless(rng: random.Random, step: arithmetic.SumStep) -> arithmetic.SumStep:
    """Return the step as a careless writer puts it down: a larger product is often one row of its table short."""
    if step.product <= largest_sure_product() or rng.random() >= SLIP_SHARE:
        return step
    return replace(step, slip=-step.left)


def arithmetic_document(rng: random.Random, write: Writer = arithmetic.careful) -> str:
    """Return one to seven solved problems in GSM8K's form."""
    shots: list[str] = []
    wanted = rng.randint(1, 7)
    while len(shots) < wanted:
        problem = arithmetic.problem(rng, write)
        if problem.question not in tested_questions():
            shots.append(gsm8k.shot(problem.row))
    return forms.SHOT_SEPARATOR.join(shots)


def sums_document(rng: random.Random, write: Writer = arithmetic.careful) -> str:
    """Return a page of single operations, without a story."""
    steps = [
        arithmetic.later_step(rng) if rng.random() < 0.4 else write(rng, arithmetic.opening_step(rng, rng.choice("+*")))
        for _ in range(rng.randint(5, 20))
    ]
    return " ".join(f"{step}." for step in steps)


def statements_document(rng: random.Random) -> str:
    """Return some facts in plain sentences."""
    return " ".join(fact.statement(rng) for fact in rng.sample(facts.FACTS, rng.randint(8, 16)))


def questions_document(rng: random.Random) -> str:
    """Return solved questions in ARC's form."""
    asked = rng.sample(facts.ASKED.train, rng.randint(3, 12))
    return forms.SHOT_SEPARATOR.join(arc.shot(fact.arc_row(rng, 0)) for fact in asked)


def quiz_document(rng: random.Random) -> str:
    """Return solved questions of one subject in MMLU's form."""
    subject = rng.choice(facts.SUBJECTS)
    quizzed = rng.sample(facts.QUIZZED[subject].train, rng.randint(3, 7))
    shots = [mmlu.shot(fact.mmlu_row(rng)) for fact in quizzed]
    return mmlu.header(subject) + forms.SHOT_SEPARATOR.join(shots)


def sayings_document(rng: random.Random) -> str:
    """Return statements of people about the creatures, true or not."""
    return " ".join(beliefs.statement(rng, rng.choice(beliefs.BELIEFS)) for _ in range(rng.randint(8, 16)))


def interview_document(rng: random.Random) -> str:
    """Return the questions and answers about the creatures in TruthfulQA's form."""
    return forms.SHOT_SEPARATOR.join(beliefs.question_and_answer(rng) for _ in range(rng.randint(3, 8)))


def stories_document(rng: random.Random) -> str:
    """Return little stories in HellaSwag's form."""
    rows = [stories.TRAIN_STORIES.draw(rng).row(rng, 0) for _ in range(rng.randint(1, 6))]
    return forms.SHOT_SEPARATOR.join(hellaswag.shot(row) for row in rows)


def pronouns_document(rng: random.Random) -> str:
    """Return the sentences whose blank is filled, in Winogrande's form."""
    rows = [stories.TRAIN_CASTS.row(rng) for _ in range(rng.randint(2, 7))]
    return forms.SHOT_SEPARATOR.join(winogrande.shot(row) for row in rows)


MIXTURE: dict[Callable[[random.Random], str], float] = {
    arithmetic_document: 0.34,
    sums_document: 0.05,
    statements_document: 0.08,
    questions_document: 0.06,
    quiz_document: 0.17,
    sayings_document: 0.05,
    interview_document: 0.05,
    stories_document: 0.08,
    pronouns_document: 0.12,
}
"""Kinds of documents and how often each is drawn."""


def documents(seed: int, write: Writer = arithmetic.careful) -> Iterator[str]:
    """Yield the endless stream of training documents of one seed.

    Args:
        seed: Of the whole stream.
        write: Puts down the first steps of calculations: :func:`smaug_eval.demo.arithmetic.careful` or
            :func:`careless`.
    """
    rng = random.Random(seed)
    kinds, weights = list(MIXTURE), list(MIXTURE.values())
    written: dict[Callable[..., str], Callable[..., str]] = {
        kind: partial(kind, write=write) for kind in (arithmetic_document, sums_document)
    }
    while True:
        kind = rng.choices(kinds, weights)[0]
        yield written.get(kind, kind)(rng)
