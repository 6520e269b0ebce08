"""Convert the forms in which preference rows are published to :class:`Pair`.

==============  ======================================================================================================
text            ``prompt``, ``chosen``, ``rejected``: texts
chat            ``prompt``, ``chosen``, ``rejected``: lists of ``{"role", "content"}`` (TRL's conversational format),
                or the same as JSON text. Without ``prompt``, the messages that chosen and rejected both begin with are
                the prompt
ultrafeedback   ``prompt``: the first user turn as text; ``chosen``, ``rejected``: whole conversations
orca            ``system``, ``question``, ``chosen``, ``rejected``: texts of a chat
truthy          ``system``, ``prompt``, ``chosen``, ``rejected``: texts of a chat
openai          ``input.messages``, ``preferred_output``, ``non_preferred_output``: lists of messages
messages        ``messages`` before ``chosen`` and ``rejected``, one message each or lists (Axolotl)
sharegpt        ``conversations`` in their place, with ``from`` and ``value`` (LLaMA-Factory)
alpaca          ``instruction``, ``input``, ``chosen``, ``rejected``: texts of a chat (LLaMA-Factory)
argilla         ``instruction``, ``chosen_response``, ``rejected_response``: texts of a chat
hh              ``chosen``, ``rejected``: texts of whole dialogues, ``Human:`` and ``Assistant:`` in turn, which are
                text rows; the prompt is all before the last answer
nectar          ``prompt``, ``answers`` with ``answer`` and ``rank``: the best against each other one
unpaired        ``prompt``, ``completion``, ``label``: one answer, text or messages, and whether it is desirable (TRL's
                unpaired preferences)
==============  ======================================================================================================

Of a list of texts, or of lists of messages, under ``chosen`` or ``rejected`` each is one answer: every chosen one makes
a pair with every rejected one. A prompt that ends with the beginning of an answer (a message of the assistant) is
continued by both completions.

A text row needs its prompt: a prompt guessed as the longest common prefix of the completions would reach into them.
Between messages the boundary is explicit, so that messages in common may be taken for the prompt.

Rows of messages may have ``tools``, ``documents`` and ``chat_template_kwargs``, and messages further keys (calls of
tools, reasoning, names): all of it reaches the chat template. Rows with pictures or sound are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.pairs.checks import FIX_ROW, checked_object, checked_text, kind_of, shortened
from smaug_eval.trainers.pairs.conversions import (
    ARGILLA_ANSWERS,
    COLUMNS,
    CONVERSATIONS,
    CONVERTERS,
    RawRow,
    UnusableRow,
    answers_apart,
    are_several_texts,
    other_form,
)
from smaug_eval.trainers.pairs.messages import Messages, decoded, read_messages, refuse_media, template_data
from smaug_eval.trainers.pairs.pair import (
    COMPLETION_COLUMN,
    LABEL_COLUMN,
    TEMPLATE_COLUMNS,
    Content,
    Message,
    Pair,
    question_of,
)

OPENAI_COLUMNS = ("input", "preferred_output", "non_preferred_output")
UNPAIRED_COLUMNS = ("prompt", COMPLETION_COLUMN, LABEL_COLUMN)
AUTO = "auto"


def pair_of_row(where: str, row: Any, form: str = AUTO) -> tuple[Pair, str]:
    """Return a row as its only pair, or the first, and the format it was read in; see :func:`pairs_of_row`."""
    pairs, found = pairs_of_row(where, row, form)
    return pairs[0], found


def pairs_of_row(where: str, row: Any, form: str = AUTO, weight: str | None = None) -> tuple[list[Pair], str]:
    """Return the pairs of one row, and the format it was read in: several where it has several answers.

    Completions may still be empty or equal: what to do about those is the caller's choice.

    Args:
        where: File and row, for messages.
        row: The row as JSON or parquet gave it.
        form: A format's name, or ``auto``.
        weight: Column with the factor of the pairs' losses; None for 1.

    Raises:
        SmaugError: the row does not fit the format, or its weight is no number from 0 on.
        UnusableRow: the row contradicts itself, or weighs nothing.
    """
    columns = decoded(checked_object(where, row, ()), (*COLUMNS, *OPENAI_COLUMNS[1:], COMPLETION_COLUMN))
    found = detect(where, columns) if form == AUTO else form
    refuse_media(where, columns)
    factor = 1.0 if weight is None else _weight(where, weight, columns)
    label = _label(where, columns) if found == "unpaired" else None
    pairs = []
    for each in answers_apart(where, CONVERTERS[found](where, columns) if found in CONVERTERS else columns):
        prompt, chosen, rejected = _ADAPTERS[found](where, each)
        data = "" if isinstance(prompt, str) else template_data(where, _with_tools_of_input(each))
        pairs.append(Pair(prompt, chosen, rejected, question_of(prompt), data, factor, label))
    return pairs, found


def _weight(where: str, column: str, row: RawRow) -> float:
    value = checked_object(where, row, (column,))[column]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise SmaugError(f"{where}: {column} is {value!r}, not a number from 0 on", fix=FIX_ROW)
    if value == 0:
        raise UnusableRow("weighs_nothing")
    return float(value)


def unused_columns(row: RawRow, form: str) -> list[str]:
    """Return the columns that reading a row in a format passes over; those without a value do not count."""
    return [column for column, value in row.items() if column not in _READ[form] and value is not None]


def are_unpaired(columns: Mapping[str, Any]) -> bool:
    """Check whether a row has one completion and its label instead of a pair."""
    has_pair = any(columns.get(side) is not None for side in COLUMNS[1:])
    return not has_pair and columns.get(COMPLETION_COLUMN) is not None and LABEL_COLUMN in columns


def detect(where: str, row: Any) -> str:
    """Return the format of a row, by its columns and the kinds of their values.

    Raises:
        SmaugError: the row mixes texts and messages.
    """
    columns = checked_object(where, row, ())
    if are_unpaired(columns):
        return "unpaired"
    if "preferred_output" in columns and "non_preferred_output" in columns:
        return "openai"
    if (other := other_form(columns)) is not None:
        return other
    lists = [column for column in COLUMNS if isinstance(columns.get(column), list | dict)]
    if "chosen" in lists and "rejected" in lists and not are_several_texts(columns):
        return "ultrafeedback" if isinstance(columns.get("prompt"), str) else "chat"
    if lists == ["prompt"] and all(isinstance(columns.get(side), str) for side in COLUMNS[1:]):
        return "chat"
    if lists and not are_several_texts(columns):
        _check_several(where, columns)
        others = ", ".join(f"{name} is {kind_of(columns[name])}" for name in COLUMNS if name in columns.keys() - lists)
        raise SmaugError(
            f"{where}: {lists[0]} is a list, but {others or 'there is no other column'}: a row is all text or all "
            "messages",
            fix=FIX_ROW,
        )
    if "question" in columns and "prompt" not in columns and ("system" in columns or not columns.get("input")):
        return "orca"
    if isinstance(columns.get("prompt"), list):
        return "chat"
    return "truthy" if "system" in columns else "text"


def _check_several(where: str, columns: Mapping[str, Any]) -> None:
    """Name what is no answer in a list of answers: nothing at all, or something that is no text among texts."""
    for side in ("chosen", "rejected"):
        answers = columns.get(side)
        if not isinstance(answers, list):
            continue
        if not answers:
            raise SmaugError(f"{where}: {side} is an empty list", fix="give at least one answer, or remove the row")
        texts = [isinstance(each, str) for each in answers]
        if any(texts) and not all(texts):
            number = texts.index(False)
            raise SmaugError(
                f"{where}: {side}[{number}] is {kind_of(answers[number])}, not text", fix="correct or remove the answer"
            )


Parts = tuple[Content, Content, Content]


def _text(where: str, row: RawRow) -> Parts:
    columns = checked_object(where, row, ("chosen", "rejected"))
    if "prompt" not in columns:
        raise SmaugError(
            f"{where}: no column prompt (it has {shortened(', '.join(map(repr, columns)))}); a prompt guessed from "
            "what the completions have in common would reach into them",
            fix="give every text row its prompt; where it has another name, set columns: {prompt: NAME} in the pair "
            "set; or give chosen and rejected as lists of messages",
        )
    prompt, chosen, rejected = (checked_text(where, column, columns[column]) for column in COLUMNS)
    return prompt, chosen, rejected


def _chat(where: str, row: RawRow) -> Parts:
    columns = checked_object(where, row, ("chosen", "rejected"))
    chosen, rejected = (_answer(where, column, columns) for column in ("chosen", "rejected"))
    if columns.get("prompt") is None:
        prompt, chosen, rejected = _split(chosen, rejected)
    else:
        prompt = read_messages(where, "prompt", columns["prompt"])
    return _checked(where, _with_system(where, prompt, columns.get("system")), chosen, rejected)


def _ultrafeedback(where: str, row: RawRow) -> Parts:
    columns = checked_object(where, row, COLUMNS)
    first = checked_text(where, "prompt", columns["prompt"])
    chosen, rejected = (read_messages(where, column, columns[column]) for column in ("chosen", "rejected"))
    if all(message.role == "assistant" for message in (*chosen, *rejected)):
        prompt: Messages = (Message("user", first),)
    else:
        prompt, chosen, rejected = _split(chosen, rejected)
    users = [(message.content or "").strip() for message in prompt if message.role == "user"]
    if not users or first.strip() not in (users[0], users[-1]):
        raise UnusableRow("prompt_differs_from_messages")
    return _checked(where, _with_system(where, prompt, columns.get("system")), chosen, rejected)


def _orca(where: str, row: RawRow) -> Parts:
    return _texts_of_a_chat(where, checked_object(where, row, ("question", "chosen", "rejected")), "question")


def _truthy(where: str, row: RawRow) -> Parts:
    return _texts_of_a_chat(where, checked_object(where, row, COLUMNS), "prompt")


def _texts_of_a_chat(where: str, columns: RawRow, asked: str) -> Parts:
    question, chosen, rejected = (
        Message(role, checked_text(where, column, columns[column]))
        for role, column in (("user", asked), ("assistant", "chosen"), ("assistant", "rejected"))
    )
    return _checked(where, _with_system(where, (question,), columns.get("system")), (chosen,), (rejected,))


def _openai(where: str, row: RawRow) -> Parts:
    columns = checked_object(where, row, OPENAI_COLUMNS)
    request = columns["input"]
    if not isinstance(request, dict) or "messages" not in request:
        raise SmaugError(f"{where}: input is {kind_of(request)} without messages", fix=FIX_ROW)
    return _checked(
        where,
        read_messages(where, "input.messages", request["messages"]),
        read_messages(where, "preferred_output", columns["preferred_output"]),
        read_messages(where, "non_preferred_output", columns["non_preferred_output"]),
    )


def _with_tools_of_input(columns: RawRow) -> RawRow:
    """OpenAI's rows have their tools beside the messages."""
    request = columns.get("input")
    return {**columns, "tools": request["tools"]} if isinstance(request, dict) and request.get("tools") else columns


def _answer(where: str, column: str, row: RawRow) -> Messages:
    """A completion: messages, or the text of one."""
    value = row[column]
    if isinstance(value, str) and isinstance(row.get("prompt"), list):
        return (Message("assistant", checked_text(where, column, value)),)
    return read_messages(where, column, value)


def _split(chosen: Messages, rejected: Messages) -> tuple[Messages, Messages, Messages]:
    """The messages that both begin with, and what is left of each; the last message of either is never shared."""
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _with_system(where: str, prompt: Messages, system: Any) -> Messages:
    text = "" if system is None else checked_text(where, "system", system)
    if not text.strip() or prompt[:1] == (Message("system", text),):
        return prompt
    if prompt and prompt[0].role in ("system", "developer"):
        raise SmaugError(f"{where}: the column system and the first message differ", fix="keep one of them")
    return (Message("system", text), *prompt)


def _checked(where: str, prompt: Messages, chosen: Messages, rejected: Messages) -> tuple[Messages, Messages, Messages]:
    if len(prompt) > 1 and prompt[-1].role == "assistant" and prompt[-2].role in ("user", "tool"):
        _check_continued(where, prompt[-1], {"chosen": chosen, "rejected": rejected})
    elif not prompt or prompt[-1].role not in ("user", "tool"):
        found = f"ends with a message of role {prompt[-1].role}" if prompt else "has no message"
        raise SmaugError(
            f"{where}: the prompt {found}; it must end with one of role user or tool",
            fix="correct or remove the row; without a column prompt, chosen and rejected must begin with the same "
            "messages",
        )
    for name, completion in (("chosen", chosen), ("rejected", rejected)):
        other = next((message.role for message in completion if message.role != "assistant"), None)
        if other:
            raise SmaugError(
                f"{where}: {name} holds a message of role {other}; a completion is assistant messages only",
                fix="leave the prompt out of the completions, and cut a conversation after the turn to compare",
            )
    return prompt, chosen, rejected


def _check_continued(where: str, begun: Message, sides: Mapping[str, Messages]) -> None:
    """Refuse completions that cannot continue a message which the prompt has begun."""
    for name, completion in sides.items():
        if begun.further or not begun.content or not completion or completion[0].content is None:
            raise SmaugError(
                f"{where}: the prompt ends with a message of role assistant, which {name} cannot continue: both must "
                "have text, and the first no call and no reasoning",
                fix="let the prompt end with one of role user or tool, or with the beginning of the answer's text",
            )


def _label(where: str, row: RawRow) -> bool:
    label = checked_object(where, row, UNPAIRED_COLUMNS)[LABEL_COLUMN]
    if not isinstance(label, bool | int | float) or label not in (0, 1):
        raise SmaugError(f"{where}: label is {label!r}, not true or false", fix=FIX_ROW)
    return bool(label)


def _unpaired(where: str, row: RawRow) -> Parts:
    """The only answer of a row, read as if it were both answers of a pair."""
    columns = checked_object(where, row, UNPAIRED_COLUMNS)
    answer = columns[COMPLETION_COLUMN]
    doubled = {name: value for name, value in columns.items() if name not in UNPAIRED_COLUMNS[1:]}
    doubled |= dict.fromkeys(COLUMNS[1:], [answer] if isinstance(answer, dict) else answer)
    try:
        prompt, completion, _ = _ADAPTERS[detect(where, doubled)](where, doubled)
    except SmaugError as error:
        raise SmaugError(error.message.replace("chosen", COMPLETION_COLUMN), fix=error.fix) from error
    return prompt, completion, "" if isinstance(completion, str) else ()


_ADAPTERS: dict[str, Callable[[str, RawRow], Parts]] = {
    "text": _text,
    "chat": _chat,
    "ultrafeedback": _ultrafeedback,
    "orca": _orca,
    "truthy": _truthy,
    "openai": _openai,
    "messages": _chat,
    "sharegpt": _chat,
    "alpaca": _truthy,
    "argilla": _truthy,
    "hh": _text,
    "nectar": _text,
    "unpaired": _unpaired,
}

_OF_A_CHAT = (*COLUMNS, "system", *TEMPLATE_COLUMNS)
_READ: dict[str, tuple[str, ...]] = {
    "text": COLUMNS,
    "chat": _OF_A_CHAT,
    "ultrafeedback": _OF_A_CHAT,
    "orca": (*_OF_A_CHAT[1:], "question"),
    "truthy": _OF_A_CHAT,
    "openai": (*OPENAI_COLUMNS, *TEMPLATE_COLUMNS),
    "messages": (*_OF_A_CHAT, "messages"),
    "sharegpt": (*_OF_A_CHAT, *CONVERSATIONS),
    "alpaca": (*_OF_A_CHAT[1:], "instruction", "input"),
    "argilla": ("system", "instruction", *ARGILLA_ANSWERS, *TEMPLATE_COLUMNS),
    "hh": COLUMNS[1:],
    "nectar": ("prompt", "answers"),
    "unpaired": (*UNPAIRED_COLUMNS, "system", *TEMPLATE_COLUMNS),
}
