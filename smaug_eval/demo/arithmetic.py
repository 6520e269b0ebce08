"""Generate word problems of two or three steps, with solutions in GSM8K's form.

A problem is an opening (one operation on two numbers) followed by one or two events, each of which changes the
running total. The solution writes every step as ``a op b = c`` and every step but the first starts from the result
before it, so that changing one intermediate result contradicts what follows.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from smaug_eval.demo.lexicon import words
from smaug_eval.demo.people import PEOPLE, Person

LARGEST_RESULT = 99
"""No number of the world has more than two digits."""
LARGEST_FACTOR = 9
LARGEST_ADDEND = 40
LARGEST_CHANGE = 20
"""The most that one event gives or takes."""

ITEMS = words(
    "pens apples books coins shells stamps eggs cakes cards beads nuts plums toys stones roses balls cups keys"
)
CONTAINERS = words("boxes bags baskets rows piles jars trays shelves")

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}


@dataclass(frozen=True)
class SumStep:
    """Hold one written operation; ``slip`` is what its writer was wrong by."""

    left: int
    operator: str
    right: int
    slip: int = 0

    @property
    def result(self) -> int:
        """Return the value right of the equals sign."""
        return OPERATIONS[self.operator](self.left, self.right) + self.slip

    @property
    def product(self) -> int:
        """Return the result of a multiplication, and 0 for a sum or a difference."""
        return self.result if self.operator == "*" else 0

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right} = {self.result}"


@dataclass(frozen=True)
class WordProblem:
    """Hold a question and its solution; ``answer`` ends in ``#### `` and the last result."""

    question: str
    answer: str
    steps: tuple[SumStep, ...]

    @property
    def row(self) -> dict[str, str]:
        """Return GSM8K's columns."""
        return {"question": self.question, "answer": self.answer}

    @property
    def largest_product(self) -> int:
        """Return the largest product among its steps, and 0 if it has none."""
        return max(step.product for step in self.steps)


@dataclass(frozen=True)
class _ProblemTemplate:
    """One operation as the question states it and as the solution works it out."""

    operator: str
    told: str
    solved: str


# {n} and {m} are the numbers in the order in which the question names them; {step} is the equation.
_OPENINGS = (
    _ProblemTemplate("*", "{name} has {n} {boxes} with {m} {items} each.", "{name} has {step} {items}."),
    _ProblemTemplate("*", "{name} fills {n} {boxes} with {m} {items} each.", "{name} has {step} {items}."),
    _ProblemTemplate("*", "Every day for {n} days {name} buys {m} {items}.", "{name} buys {step} {items}."),
    _ProblemTemplate("+", "{name} has {n} {items} at home and {m} at school.", "{name} has {step} {items}."),
    _ProblemTemplate("+", "{name} finds {n} {items} on Monday and {m} on Friday.", "{name} finds {step} {items}."),
)
_EVENTS = (
    _ProblemTemplate("-", "{They} gives {n} {items} to {friend}.", "{They} keeps {step} {items}."),
    _ProblemTemplate("-", "{They} loses {n} of the {items}.", "That leaves {step} {items}."),
    _ProblemTemplate("-", "Then {they} sells {n} {items}.", "That leaves {step} {items}."),
    _ProblemTemplate("+", "Then {friend} brings {n} more {items}.", "Now there are {step} {items}."),
    _ProblemTemplate("+", "{They} gets {n} more {items} from {friend}.", "Now {they} has {step} {items}."),
)
_ENDINGS = (
    "How many {items} does {name} have now?",
    "How many {items} does {name} have in the end?",
)


def opening_step(rng: random.Random, operator: str) -> SumStep:
    """Return a product of two digits or a sum of two numbers that may have two digits."""
    largest = LARGEST_FACTOR if operator == "*" else LARGEST_ADDEND
    return SumStep(rng.randint(2, largest), operator, rng.randint(2, largest))


def later_step(rng: random.Random) -> SumStep:
    """Return a change of some total, as an event makes it."""
    total = rng.randint(LARGEST_CHANGE + 1, LARGEST_RESULT - LARGEST_CHANGE)
    return SumStep(total, rng.choice("+-"), rng.randint(2, LARGEST_CHANGE))


def _event_number(rng: random.Random, operator: str, total: int) -> int | None:
    """A change that keeps the total between 1 and the largest result, or None where there is none."""
    largest = min(LARGEST_CHANGE, total - 1 if operator == "-" else LARGEST_RESULT - total)
    return rng.randint(2, largest) if largest >= 2 else None


Writer = Callable[[random.Random, SumStep], SumStep]
"""Puts down the first step of a calculation, rightly or not."""


def careful(rng: random.Random, step: SumStep) -> SumStep:
    """Return the step as it is."""
    return step


def problem(rng: random.Random, write: Writer = careful) -> WordProblem:
    """Draw a problem with one opening and one or two events; what follows a wrong first result starts from it."""
    person, friend = rng.sample(PEOPLE, 2)
    names = _words(rng, person, friend)
    opening = rng.choice(_OPENINGS)
    steps = [write(rng, opening_step(rng, opening.operator))]
    told = [opening.told.format(n=steps[0].left, m=steps[0].right, **names)]
    solved = [opening.solved.format(step=steps[0], **names)]
    wanted = rng.choice((2, 2, 3))
    while len(steps) < wanted:
        event = rng.choice(_EVENTS)
        total = steps[-1].result
        change = _event_number(rng, event.operator, total)
        if change is None:
            continue
        steps.append(SumStep(total, event.operator, change))
        told.append(event.told.format(n=change, **names))
        solved.append(event.solved.format(step=steps[-1], **names))
    told.append(rng.choice(_ENDINGS).format(**names))
    answer = " ".join(solved) + f"\n#### {steps[-1].result}"
    return WordProblem(" ".join(told), answer, tuple(steps))


def _words(rng: random.Random, person: Person, friend: Person) -> dict[str, str]:
    return {
        "name": person.name,
        "friend": friend.name,
        "they": person.they,
        "They": person.they.capitalize(),
        "items": rng.choice(ITEMS),
        "boxes": rng.choice(CONTAINERS),
    }


def problems(seed: str, count: int, *, excluded: frozenset[str] = frozenset()) -> list[WordProblem]:
    """Return ``count`` problems with different questions, none of them in ``excluded``."""
    rng = random.Random(seed)
    found: dict[str, WordProblem] = {}
    while len(found) < count:
        drawn = problem(rng)
        if drawn.question not in excluded:
            found.setdefault(drawn.question, drawn)
    return list(found.values())
