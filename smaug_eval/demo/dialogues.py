"""Generate eight dialogues of two questions in the demo's world, with what a good answer contains."""

from __future__ import annotations

from dataclasses import dataclass

from smaug_eval.demo.facts import JOBS, STREETS

QUESTION_SET = "demo dialogue"


@dataclass(frozen=True)
class DemoTurn:
    """Hold one question.

    Attributes:
        question: As the model reads it.
        expected: Words that a good answer holds, or the one number it ends with.
        solution: Shown to the judge in the categories whose judge sees a reference answer.
    """

    question: str
    expected: tuple[str, ...]
    solution: str = ""


@dataclass(frozen=True)
class Dialogue:
    """Hold two questions, of which the second comes after the answer to the first.

    Attributes:
        category: One of MT-Bench's; it decides the temperature.
        turns: The questions.
    """

    category: str
    turns: tuple[DemoTurn, DemoTurn]


def _sum(question: str, *steps: str) -> DemoTurn:
    """A word problem and the sentences of its solution, the last of which holds the result."""
    number = steps[-1].rpartition("= ")[2].split()[0]
    return DemoTurn(question, (number,), " ".join(steps) + f"\n#### {number}")


DIALOGUES = (
    Dialogue(
        "math",
        (
            _sum(
                "Every day for 9 days Clara buys 8 nuts. She gives 17 nuts to Sam. Then she sells 19 nuts. How many "
                "nuts does Clara have in the end?",
                "Clara buys 9 * 8 = 72 nuts.",
                "She keeps 72 - 17 = 55 nuts.",
                "That leaves 55 - 19 = 36 nuts.",
            ),
            _sum(
                "Clara has 36 nuts at home and 38 at school. She loses 15 of the nuts. Then Sam brings 18 more nuts. "
                "How many nuts does Clara have now?",
                "Clara has 36 + 38 = 74 nuts.",
                "That leaves 74 - 15 = 59 nuts.",
                "Now there are 59 + 18 = 77 nuts.",
            ),
        ),
    ),
    Dialogue(
        "math",
        (
            _sum(
                "Oscar has 8 trays with 9 eggs each. Then he sells 14 eggs. He gets 19 more eggs from Ella. How many "
                "eggs does Oscar have now?",
                "Oscar has 8 * 9 = 72 eggs.",
                "That leaves 72 - 14 = 58 eggs.",
                "Now he has 58 + 19 = 77 eggs.",
            ),
            _sum(
                "Oscar finds 37 eggs on Monday and 26 on Friday. He loses 18 of the eggs. He gives 16 eggs to Ella. "
                "How many eggs does Oscar have in the end?",
                "Oscar finds 37 + 26 = 63 eggs.",
                "That leaves 63 - 18 = 45 eggs.",
                "He keeps 45 - 16 = 29 eggs.",
            ),
        ),
    ),
    Dialogue(
        "reasoning",
        (
            DemoTurn("What is the opposite of deep?", ("shallow",), "shallow"),
            DemoTurn("What is the opposite of shallow?", ("deep",), "deep"),
        ),
    ),
    Dialogue(
        "stem",
        (
            DemoTurn("What kind of animal is the heron?", ("bird",)),
            DemoTurn("Where does the stork live?", ("nest",)),
        ),
    ),
    Dialogue(
        "stem",
        (DemoTurn("What colour is the ruby?", ("red",)), DemoTurn("What colour is the emerald?", ("green",))),
    ),
    Dialogue(
        "humanities",
        (
            DemoTurn("What is the job of Vera?", (JOBS["Vera"],)),
            DemoTurn("On which street does Vera live?", (STREETS["Vera"],)),
        ),
    ),
    Dialogue(
        "roleplay",
        (DemoTurn("What do trolls fear?", ("rain",)), DemoTurn("How do trolls travel?", ("sledge",))),
    ),
    Dialogue(
        "writing",
        (
            DemoTurn(
                "Painting: Tom walks past the drum and opens a can of blue paint for the gate. He",
                ("paints", "gate", "brush"),
            ),
            DemoTurn(
                "Wrapping: Tom walks past the gate and cuts paper and ribbon for the clock. He",
                ("wraps", "clock", "present"),
            ),
        ),
    ),
)
