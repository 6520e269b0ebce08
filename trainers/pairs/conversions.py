"""Convert rows of other projects to the columns of :mod:`smaug_eval.trainers.pairs.formats`.

Sources: Axolotl's docs/rlhf.qmd, LLaMA-Factory's data/README.md, the cards of Anthropic/hh-rlhf and
berkeley-nest/Nectar.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.pairs.checks import FIX_ROW, checked_object, checked_text, kind_of

COLUMNS = ("prompt", "chosen", "rejected")
CONVERSATIONS = ("conversations", "conversation")
ARGILLA_ANSWERS = ("chosen_response", "rejected_response")
_HUMAN, _ASSISTANT = "\n\nHuman:", "\n\nAssistant:"

RawRow = Mapping[str, Any]


class UnusableRow(Exception):
    """Report a well-formed row that cannot become a pair; to be dropped and counted.

    Args:
        reason: The name to count it under.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def other_form(row: RawRow) -> str | None:
    """Return the name of the format of :data:`CONVERTERS` that a row has; None for another."""
    has_pair = row.get("chosen") is not None and row.get("rejected") is not None
    if isinstance(row.get("answers"), list) and "prompt" in row and not has_pair:
        return "nectar"
    if all(column in row for column in ARGILLA_ANSWERS):
        return "argilla"
    if not has_pair or row.get("prompt") is not None:
        return None
    if any(isinstance(row.get(column), list) for column in CONVERSATIONS):
        return "sharegpt"
    if isinstance(row.get("messages"), list):
        return "messages"
    if isinstance(row.get("instruction"), str):
        return "alpaca"
    sides = [row[side] for side in COLUMNS[1:]]
    return "hh" if all(map(_is_hh, sides)) else None


def are_several_texts(row: RawRow) -> bool:
    """Check whether answers are texts in a list: several for one prompt."""
    sides = [row.get(side) for side in COLUMNS[1:]]
    texts = [bool(side) and all(isinstance(text, str) for text in side) for side in sides if isinstance(side, list)]
    return bool(texts) and all(texts) and all(isinstance(side, list | str) for side in sides)


def answers_apart(where: str, row: RawRow) -> Iterator[RawRow]:
    """Yield a row with each chosen and each rejected answer, where it has several of one.

    Raises:
        SmaugError: a list holds both texts and messages.
    """
    if any(isinstance(each, dict) for side in COLUMNS[1:] for each in _listed(row.get(side))):
        yield row  # lists of messages are one answer each
        return
    sides = [_answers(where, side, row[side]) if side in row else [None] for side in COLUMNS[1:]]
    for chosen, rejected in itertools.product(*sides):
        new = {"chosen": chosen, "rejected": rejected}
        yield {**row, **{side: value for side, value in new.items() if side in row}}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _answers(where: str, side: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not value or not all(isinstance(each, str | list) for each in value):
        return [value]
    if len({type(each) for each in value}) > 1:
        raise SmaugError(f"{where}: {side} holds both texts and lists of messages", fix=FIX_ROW)
    return value


def _of_messages(where: str, row: RawRow) -> RawRow:
    return _behind(row, "messages")


def _of_conversations(where: str, row: RawRow) -> RawRow:
    name = next((column for column in CONVERSATIONS if column in row), CONVERSATIONS[0])
    return _behind(checked_object(where, row, (name,)), name)


def _behind(row: RawRow, column: str) -> RawRow:
    """A row whose answers follow the messages of a column; answers that repeat these are whole conversations."""
    before = row.get(column)
    sides = [row.get(side) for side in COLUMNS[1:]]
    if before and all(isinstance(side, list) and side[: len(before)] == before for side in sides):
        return {key: value for key, value in row.items() if key != column}
    return {**{key: value for key, value in row.items() if key != column}, "prompt": before}


def _of_alpaca(where: str, row: RawRow) -> RawRow:
    columns = checked_object(where, row, ("instruction", "chosen", "rejected"))
    asked = [checked_text(where, "instruction", columns["instruction"])]
    if (given := columns.get("input")) not in (None, ""):
        asked.append(checked_text(where, "input", given))
    return {**{key: value for key, value in columns.items() if key != "input"}, "prompt": "\n".join(asked)}


def _of_argilla(where: str, row: RawRow) -> RawRow:
    columns = checked_object(where, row, ("instruction", *ARGILLA_ANSWERS))
    chosen, rejected = (columns[name] for name in ARGILLA_ANSWERS)
    return {**columns, "prompt": columns["instruction"], "chosen": chosen, "rejected": rejected}


def _of_hh(where: str, row: RawRow) -> RawRow:
    columns = checked_object(where, row, COLUMNS[1:])
    chosen, rejected = (checked_text(where, side, columns[side]) for side in COLUMNS[1:])
    prompt = chosen[: chosen.rfind(_ASSISTANT) + len(_ASSISTANT)]
    if not _is_hh(chosen) or not rejected.startswith(prompt):
        raise UnusableRow("dialogues_differ_before_the_last_answer")
    return {"prompt": prompt, "chosen": chosen[len(prompt) :], "rejected": rejected[len(prompt) :]}


def _is_hh(text: Any) -> bool:
    return isinstance(text, str) and f"\n\n{text.lstrip()}".startswith(_HUMAN) and _ASSISTANT in text


def _of_nectar(where: str, row: RawRow) -> RawRow:
    columns = checked_object(where, row, ("prompt", "answers"))
    answers = columns["answers"]
    if not isinstance(answers, list) or not all(isinstance(each, dict) for each in answers):
        raise SmaugError(f"{where}: answers is {kind_of(answers)}, not a list of objects", fix=FIX_ROW)
    ranked = []
    for number, each in enumerate(answers):
        place = f"answers[{number}]"
        rank = checked_object(f"{where}: {place}", each, ("answer", "rank"))["rank"]
        if isinstance(rank, bool) or not isinstance(rank, int | float):
            raise SmaugError(f"{where}: {place}.rank is {kind_of(rank)}, not a number", fix=FIX_ROW)
        ranked.append((rank, checked_text(where, f"{place}.answer", each["answer"])))
    best = min((rank for rank, _ in ranked), default=0)
    chosen = [text for rank, text in ranked if rank == best]
    rejected = [text for rank, text in ranked if rank > best]
    if not chosen or not rejected:
        raise UnusableRow("no_answer_is_better_than_another")
    return {"prompt": columns["prompt"], "chosen": chosen, "rejected": rejected}


CONVERTERS: dict[str, Callable[[str, RawRow], RawRow]] = {
    "messages": _of_messages,
    "sharegpt": _of_conversations,
    "alpaca": _of_alpaca,
    "argilla": _of_argilla,
    "hh": _of_hh,
    "nectar": _of_nectar,
}
"""By format, what turns a row of it into one of the other formats."""
