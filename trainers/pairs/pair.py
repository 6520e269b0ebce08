"""Define a preference pair, and a set of them split into training and held-out pairs."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from smaug_eval.leaderboard.forms import SHOT_SEPARATOR

SAID_KEYS = ("tool_plan", "reasoning_content", "reasoning", "thinking", "tool_calls", "function_call", "tool_responses")
"""Keys of a message that say something beside its content: reasoning, calls of tools, their results."""
MESSAGE_KEYS = (*SAID_KEYS, "tool_call_id", "name")
"""Keys of a message that chat templates read, beside role and content. Messages that differ in one are not equal."""
WEIGHT_COLUMN = "weight"
"""Column of a built pair file: the factor of the pair's loss, where it is not 1."""
COMPLETION_COLUMN, LABEL_COLUMN = "completion", "label"
"""Columns of an unpaired row: its only answer, and whether that is desirable."""
TEMPLATE_COLUMNS = ("tools", "documents", "chat_template_kwargs")
"""Columns of a row of messages that are handed to its chat template."""


@dataclass(frozen=True)
class Message:
    """Hold one turn of a chat.

    Attributes:
        role: ``system``, ``developer``, ``user``, ``assistant`` or ``tool``.
        content: What is said; None where the row gives null, as beside calls of tools.
        further: The keys of ``MESSAGE_KEYS`` that it has, as a JSON object; empty where it has none.
        labels: Any other keys, in the same form. The template sees them too, but they make no difference between two
            messages: they may be numbers or dates of the conversation.
    """

    role: str
    content: str | None
    further: str = ""
    labels: str = field(default="", compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the message as chat templates take it."""
        return {"role": self.role, "content": self.content, **_object(self.further), **_object(self.labels)}

    @property
    def is_blank(self) -> bool:
        """Return whether the message is empty: no word, no reasoning and no call."""
        return not (self.content or "").strip() and not any(map(_object(self.further).get, SAID_KEYS))


SMALL_SHARE = 10
"""Of so many pairs of a small set one is held out."""

Content = str | tuple[Message, ...]
"""Plain text, or the messages of a chat to which a chat template is still to be applied."""


@dataclass(frozen=True)
class Pair:
    """Hold two completions of one prompt, the first preferred. All three are text, or all three are messages.

    An unpaired row holds one completion, under ``chosen`` whatever its label; its ``rejected`` is empty.

    Attributes:
        prompt: What the model is given.
        chosen: The preferred completion; as text with its leading space or newline.
        rejected: The other one.
        question: What identifies the problem: two pairs with the same question never stand on both sides of the split.
        template_data: The columns of ``TEMPLATE_COLUMNS`` that the row has, as a JSON object; empty where it has none.
        weight: Factor of the pair's loss.
        label: Of an unpaired row whether its completion is desirable; None for a pair.
    """

    prompt: Content
    chosen: Content
    rejected: Content
    question: str
    template_data: str = ""
    weight: float = field(default=1.0, compare=False)
    label: bool | None = None

    @property
    def completions(self) -> dict[str, Content]:
        """Return the completions that there are by the names of their columns."""
        if self.label is not None:
            return {"completion": self.chosen}
        return {"chosen": self.chosen, "rejected": self.rejected}

    def row(self) -> dict[str, Any]:
        """Return the pair in the three columns that preference data sets use: texts, or lists of messages.

        A chat's tools, documents and template settings stand beside them, and so does a weight that is not 1. An
        unpaired row has ``prompt``, ``completion`` and ``label``.
        """
        columns: dict[str, Any] = {"prompt": _plain(self.prompt)}
        columns |= {name: _plain(completion) for name, completion in self.completions.items()}
        columns |= {} if self.label is None else {LABEL_COLUMN: self.label}
        return columns | _object(self.template_data) | ({} if self.weight == 1 else {WEIGHT_COLUMN: self.weight})


@dataclass
class PairSet:
    """Hold the pairs of one source.

    Attributes:
        train: Pairs to train on.
        eval: Held-out pairs.
        rows: How many rows were read.
        dropped: How many rows or pairs were left out, by reason.
        formats: How many ready-made rows there were of each format.
        parts: How many training pairs a mixture took from each set.
        revision: The Hub's commit that was read, where the reader noted it.
        unused: Columns and keys of messages that were not read, in the order found.
        notes: What is worth saying of the rows once.
    """

    train: list[Pair]
    eval: list[Pair]
    rows: int
    dropped: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    parts: dict[str, int] = field(default_factory=dict)
    revision: str | None = None
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def text_of(content: Content) -> str:
    """Return the text that a prompt or completion holds.

    The messages of a chat one below the other, without their roles.
    """
    return content if isinstance(content, str) else "\n".join(message_text(message.as_dict()) for message in content)


def message_text(message: Mapping[str, Any]) -> str:
    """Return all text of a message of a pair file: its content, reasoning, calls and tool results."""
    content = [message["content"]] if message.get("content") is not None else []
    return "\n".join([*content, *(text for key in SAID_KEYS for text in _texts(message.get(key)))])


def is_empty(content: Content) -> bool:
    """Check whether a completion is empty: blank text, no message, or a message without text, reasoning or call."""
    if isinstance(content, str):
        return not content.strip()
    return not content or any(message.is_blank for message in content)


def question_of(prompt: Content) -> str:
    """Return what identifies the problem of a ready-made prompt.

    Of a prompt that ends in "Question: ...\\nAnswer:" the last question, whatever solved examples stand before it; of
    other texts the whole; of a chat the contents of its messages, without those of the system or the developer.
    """
    if not isinstance(prompt, str):
        return "\n".join(message.content or "" for message in prompt if message.role not in ("system", "developer"))
    before_answer = prompt.rstrip().removesuffix("\nAnswer:")
    _, mark, question = (SHOT_SEPARATOR + before_answer).rpartition(f"{SHOT_SEPARATOR}Question: ")
    return question if mark and before_answer != prompt.rstrip() else prompt


def draw_questions(questions: Iterable[str], count: int, rng: random.Random) -> list[str]:
    """Draw distinct questions in random order until at least ``count`` of the given ones are covered.

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


class SplitSettings(Protocol):
    """Hold what decides how pairs are split, as every pair set of a recipe says it."""

    holdout: int
    seed: int
    limit: int | None


def split_pairs(
    config: SplitSettings, result: PairSet, pairs: Sequence[Pair], candidates: Sequence[Pair] | None = None
) -> PairSet:
    """Split pairs into those to train on and held-out ones, which share no question.

    Args:
        config: How many pairs to hold out and to keep, and the seed of the draw.
        result: Gets the pairs, and how many share a held-out question and were left out.
        pairs: All pairs.
        candidates: Pairs to draw the held-out ones from; ``pairs`` where None.

    Returns:
        ``result``.
    """
    own = candidates is None
    candidates = pairs if candidates is None else candidates
    holdout = _fitting_holdout(config, pairs, result) if own else config.holdout
    questions = (pair.question for pair in candidates)
    drawn = set(draw_questions(questions, holdout, random.Random(f"{config.seed}:holdout")))
    result.eval = [pair for pair in candidates if pair.question in drawn][:holdout]
    train = without_questions(pairs, drawn)
    used_up = len(pairs) - len(train) - (len(result.eval) if own else 0)
    if used_up:
        result.dropped["shares_a_held_out_question"] += used_up
    result.train = train[: config.limit]
    return result


def _fitting_holdout(config: SplitSettings, pairs: Sequence[Pair], result: PairSet) -> int:
    """How many pairs of a set to hold out: fewer where the default, which nobody asked for, would take half of them."""
    asked = "holdout" in getattr(config, "model_fields_set", {"holdout"})
    if asked or not config.holdout or (len(pairs) > 2 * config.holdout and _can_be_split(pairs)):
        return config.holdout
    if not _can_be_split(pairs):
        result.notes.append("no pairs are held out: all pairs ask the same question")
        return 0
    found = len(pairs) // SMALL_SHARE
    result.notes.append(
        f"{found} of {len(pairs)} pairs are held out: the default of {config.holdout} is too many for so small a set"
    )
    return found


def _can_be_split(pairs: Sequence[Pair]) -> bool:
    return any(pair.question != pairs[0].question for pair in pairs)


def without_questions(pairs: Sequence[Pair], questions: set[str]) -> list[Pair]:
    """Return the pairs whose question is none of ``questions``, in order."""
    return [pair for pair in pairs if pair.question not in questions]


def reasons_of(dropped: Mapping[str, int]) -> str:
    """Return what was left out as a phrase: "3 duplicate, 1 empty completion"."""
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in dropped.items()) or "none dropped"


def _plain(content: Content) -> str | list[dict[str, Any]]:
    return content if isinstance(content, str) else [message.as_dict() for message in content]


def _object(text: str) -> dict[str, Any]:
    """The keys that a message or a pair keeps as text, so that it can be compared and hashed."""
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def _texts(value: Any) -> Iterator[str]:
    """Every text and number in a JSON value, names of calls and arguments included."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield str(name)
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif value is not None:
        yield str(value)
