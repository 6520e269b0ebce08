"""A preference pair, and a set of them split into training and held-out pairs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from smaug_eval.wording import SHOT_SEPARATOR


@dataclass(frozen=True)
class Message:
    """One turn of a chat.

    Attributes:
        role: ``system``, ``user``, ``assistant`` or ``tool``.
        content: What is said.
    """

    role: str
    content: str


Content = str | tuple[Message, ...]
"""Plain text, or the messages of a chat to which a chat template is still to be applied."""


@dataclass(frozen=True)
class Pair:
    """Two completions of one prompt, the first preferred. All three are text, or all three are messages.

    Attributes:
        prompt: What the model is given.
        chosen: The preferred completion; as text with its leading space or newline.
        rejected: The other one.
        question: What identifies the problem: two pairs with the same question never stand on both sides of the split.
    """

    prompt: Content
    chosen: Content
    rejected: Content
    question: str

    def row(self) -> dict[str, Any]:
        """The pair in the three columns that preference data sets use: texts, or lists of role and content."""
        return {"prompt": _plain(self.prompt), "chosen": _plain(self.chosen), "rejected": _plain(self.rejected)}


@dataclass
class PairSet:
    """The pairs of one source.

    Attributes:
        train: Pairs to train on.
        eval: Held-out pairs.
        rows: How many rows were read.
        dropped: How many rows or pairs were left out, by reason.
        formats: How many ready-made rows there were of each format.
        parts: How many training pairs a mixture took from each set.
    """

    train: list[Pair]
    eval: list[Pair]
    rows: int
    dropped: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    parts: dict[str, int] = field(default_factory=dict)


def text_of(content: Content) -> str:
    """The text that a prompt or completion holds; the messages of a chat one below the other, without their roles."""
    return content if isinstance(content, str) else "\n".join(message.content for message in content)


def is_empty(content: Content) -> bool:
    """Whether a completion says nothing: blank text, no message, or a message without text."""
    if isinstance(content, str):
        return not content.strip()
    return not content or any(not message.content.strip() for message in content)


def question_of(prompt: Content) -> str:
    """What identifies the problem of a ready-made prompt.

    Of a prompt that ends in "Question: ...\\nAnswer:" the last question, whatever solved examples stand before it; of
    other texts the whole; of a chat what is said in it, without system messages.
    """
    if not isinstance(prompt, str):
        return text_of(tuple(message for message in prompt if message.role != "system"))
    before_answer = prompt.rstrip().removesuffix("\nAnswer:")
    _, mark, question = (SHOT_SEPARATOR + before_answer).rpartition(f"{SHOT_SEPARATOR}Question: ")
    return question if mark and before_answer != prompt.rstrip() else prompt


def draw_questions(questions: Iterable[str], count: int, rng: random.Random) -> list[str]:
    """Distinct questions in random order until at least ``count`` of the given ones are covered.

    ``questions`` may repeat (several pairs of one question); the draw depends on the set of questions and on ``rng``,
    not on their order.
    """
    pairs_of = Counter(questions)
    order = sorted(pairs_of)
    rng.shuffle(order)
    drawn: list[str] = []
    covered = 0
    for question in order:
        if covered >= count:
            break
        drawn.append(question)
        covered += pairs_of[question]
    return drawn


def without_questions(pairs: Sequence[Pair], questions: set[str]) -> list[Pair]:
    """The pairs whose question is none of ``questions``, in order."""
    return [pair for pair in pairs if pair.question not in questions]


def reasons_of(dropped: Mapping[str, int]) -> str:
    """What was left out, in words: "3 duplicate, 1 empty completion"."""
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in dropped.items()) or "none dropped"


def _plain(content: Content) -> str | list[dict[str, str]]:
    if isinstance(content, str):
        return content
    return [{"role": message.role, "content": message.content} for message in content]
