"""Define what a benchmark's form is, and what several forms share.

A form turns one row, in the Hub's own columns, into text: a solved example for the prompt, and an evaluated
document. Forms know nothing of where rows come from or how many shots there are, so any suite may reuse them; each is
in a file of its own in :mod:`smaug_eval.leaderboard.benchmarks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
Document = dict[str, Any]

LETTERS = ("A", "B", "C", "D")
SHOT_SEPARATOR = "\n\n"
NO_CHOICE = -100
"""lm-eval's index of a right answer that is none of the choices: then every choice is wrong."""


@dataclass(frozen=True)
class Form:
    """Define how rows of one kind are shown to a model, and what identifies them.

    Attributes:
        name: Short name of the form.
        columns: The Hub columns that the functions read.
        shot: Row to solved example, answer included, without a separator after it.
        document: Row and preamble (everything before the question) to the fields of an evaluated document.
        example: Row to the text that the contamination check shows a model; None where the row is left out.
        identity: Row to what identifies it in training pairs: its wordings, and the right answer.
        gold: Row to the index of the right choice; None for forms without one right choice.

    The functions raise ValueError, KeyError or TypeError on a row that does not fit the form.
    """

    name: str
    columns: tuple[str, ...]
    shot: Callable[[Row], str]
    document: Callable[[Row, str], Document]
    example: Callable[[Row], str | None]
    identity: Callable[[Row], tuple[list[str], str]]
    gold: Callable[[Row], int] | None = None


def question(row: Row) -> str:
    """Return the question of an ARC or GSM8K row, which show no choices."""
    return f"Question: {row['question']}\nAnswer:"


def continuations(document: Document, delimiter: str = " ") -> list[tuple[str, str]]:
    """Return the ``(context, continuation)`` pairs of a document with choices, in the harness's order.

    Args:
        document: The document.
        delimiter: What stands before each continuation; nothing behind the opening of a chat template's answer.
    """
    if "contexts" in document:
        return [(context, f"{delimiter}{document['target']}") for context in document["contexts"]]
    return [(document["ctx"], f"{delimiter}{option}") for option in document["options"]]


def choice_document(query: str, options: list[str], gold: int, preamble: str) -> Document:
    """Build the fields of a question with choices, each of which is scored behind the same context."""
    return {"query": query, "ctx": preamble + query, "options": list(options), "gold": _checked(gold, options)}


def answered_document(query: str, options: Sequence[str], answer: str, preamble: str) -> Document:
    """Return the fields of a question whose right choice is given as text, as lm-eval 0.4 takes it.

    An answer that is none of the choices gives ``NO_CHOICE``, as there, and then no choice is right.
    """
    gold = list(options).index(answer) if answer in options else NO_CHOICE
    return {"query": query, "ctx": preamble + query, "options": list(options), "gold": gold}


def solved(query: str, options: Sequence[str], gold: int) -> str:
    """Return a question with its right choice."""
    return f"{query} {options[_checked(gold, options)]}"


def _checked(gold: int, options: Sequence[str]) -> int:
    if not 0 <= gold < len(options):
        raise ValueError(f"the answer is choice {gold}, but there are {len(options)} choices")
    return gold
