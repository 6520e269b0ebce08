"""The forms in which preference rows are published, and each one's way to a :class:`Pair`.

==============  ======================================================================================================
text            ``prompt``, ``chosen``, ``rejected``: texts
chat            ``prompt``, ``chosen``, ``rejected``: lists of ``{"role", "content"}`` (TRL's conversational format).
                Without ``prompt``, the messages that chosen and rejected both begin with are the prompt
ultrafeedback   ``prompt``: the first user turn as text; ``chosen``, ``rejected``: whole conversations
orca            ``system``, ``question``, ``chosen``, ``rejected``: texts of a chat
truthy          ``system``, ``prompt``, ``chosen``, ``rejected``: texts of a chat
openai          ``input.messages``, ``preferred_output``, ``non_preferred_output``: lists of messages
==============  ======================================================================================================

A text row needs its prompt: a prompt guessed as the longest common prefix of the completions would reach into them.
Between messages the boundary is explicit, so that messages in common may be taken for the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from smaug_eval.errors import SmaugError
from trainers.pairs.checks import FIX_ROW, checked_object, checked_text, kind_of, shortened
from trainers.pairs.pair import Content, Message, Pair, question_of

COLUMNS = ("prompt", "chosen", "rejected")
ROLES = ("system", "user", "assistant", "tool")
AUTO = "auto"

Messages = tuple[Message, ...]
RawRow = Mapping[str, Any]


class UnusableRow(Exception):
    """A well-formed row that cannot become a pair; to be dropped and counted.

    Args:
        reason: The name to count it under.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def pair_of_row(where: str, row: Any, form: str = AUTO) -> tuple[Pair, str]:
    """One row as a pair, and the format it was read in.

    Completions may still be empty or equal: what to do about those is the caller's choice.

    Args:
        where: File and row, for messages.
        row: The row as JSON or parquet gave it.
        form: A format's name, or ``auto``.

    Raises:
        SmaugError: the row does not fit the format.
        UnusableRow: the row contradicts itself.
    """
    found = detect(where, row) if form == AUTO else form
    prompt, chosen, rejected = _ADAPTERS[found](where, row)
    return Pair(prompt, chosen, rejected, question_of(prompt)), found


def detect(where: str, row: Any) -> str:
    """The format of a row, by its columns and the kinds of their values.

    Raises:
        SmaugError: the row mixes texts and messages.
    """
    columns = checked_object(where, row, ())
    if "preferred_output" in columns and "non_preferred_output" in columns:
        return "openai"
    lists = [column for column in COLUMNS if isinstance(columns.get(column), list)]
    if "chosen" in lists and "rejected" in lists:
        return "ultrafeedback" if isinstance(columns.get("prompt"), str) else "chat"
    if lists:
        others = ", ".join(f"{name} is {kind_of(columns[name])}" for name in COLUMNS if name in columns.keys() - lists)
        raise SmaugError(
            f"{where}: {lists[0]} is a list, but {others or 'there is no other column'}: a row is all text or all "
            "messages",
            fix=FIX_ROW,
        )
    if "system" in columns:
        return "orca" if "question" in columns and "prompt" not in columns else "truthy"
    return "text"


Parts = tuple[Content, Content, Content]


def _text(where: str, row: RawRow) -> Parts:
    columns = checked_object(where, row, ("chosen", "rejected"))
    if "prompt" not in columns:
        raise SmaugError(
            f"{where}: no column prompt (it has {shortened(', '.join(map(repr, columns)))}); a prompt guessed from "
            "what the completions have in common would reach into them",
            fix="give every text row its prompt, or give chosen and rejected as lists of messages",
        )
    prompt, chosen, rejected = (checked_text(where, column, columns[column]) for column in COLUMNS)
    return prompt, chosen, rejected


def _chat(where: str, row: RawRow) -> Parts:
    columns = checked_object(where, row, ("chosen", "rejected"))
    chosen, rejected = (_messages(where, column, columns[column]) for column in ("chosen", "rejected"))
    if columns.get("prompt") is None:
        prompt, chosen, rejected = _split(chosen, rejected)
    else:
        prompt = _messages(where, "prompt", columns["prompt"])
    return _checked(where, _with_system(where, prompt, columns.get("system")), chosen, rejected)


def _ultrafeedback(where: str, row: RawRow) -> Parts:
    columns = checked_object(where, row, COLUMNS)
    first = checked_text(where, "prompt", columns["prompt"])
    chosen, rejected = (_messages(where, column, columns[column]) for column in ("chosen", "rejected"))
    prompt, chosen, rejected = _split(chosen, rejected)
    users = [message.content for message in prompt if message.role == "user"]
    if not users or users[0].strip() != first.strip():
        raise UnusableRow("prompt_differs_from_messages")
    return _checked(where, _with_system(where, prompt, columns.get("system")), chosen, rejected)


def _orca(where: str, row: RawRow) -> Parts:
    return _texts_of_a_chat(where, checked_object(where, row, ("system", "question", "chosen", "rejected")), "question")


def _truthy(where: str, row: RawRow) -> Parts:
    return _texts_of_a_chat(where, checked_object(where, row, ("system", *COLUMNS)), "prompt")


def _texts_of_a_chat(where: str, columns: RawRow, asked: str) -> Parts:
    question, chosen, rejected = (
        Message(role, checked_text(where, column, columns[column]))
        for role, column in (("user", asked), ("assistant", "chosen"), ("assistant", "rejected"))
    )
    return _checked(where, _with_system(where, (question,), columns["system"]), (chosen,), (rejected,))


def _openai(where: str, row: RawRow) -> Parts:
    columns = checked_object(where, row, ("input", "preferred_output", "non_preferred_output"))
    request = columns["input"]
    if not isinstance(request, dict) or "messages" not in request:
        raise SmaugError(f"{where}: input is {kind_of(request)} without messages", fix=FIX_ROW)
    return _checked(
        where,
        _messages(where, "input.messages", request["messages"]),
        _messages(where, "preferred_output", columns["preferred_output"]),
        _messages(where, "non_preferred_output", columns["non_preferred_output"]),
    )


def _messages(where: str, column: str, value: Any) -> Messages:
    if not isinstance(value, list):
        raise SmaugError(f"{where}: {column} is {kind_of(value)}, not a list of messages", fix=FIX_ROW)
    return tuple(_message(where, f"{column}[{index}]", item) for index, item in enumerate(value))


def _message(where: str, place: str, item: Any) -> Message:
    if not isinstance(item, dict) or "role" not in item or "content" not in item:
        what = "without role and content" if isinstance(item, dict) else "and no message"
        raise SmaugError(f"{where}: {place} is {kind_of(item)} {what}", fix='write {"role": ..., "content": ...}')
    role = item["role"]
    if role not in ROLES:
        raise SmaugError(f"{where}: {place} has the role {shortened(repr(role))}", fix=f"use {', '.join(ROLES)}")
    return Message(role, checked_text(where, f"{place}.content", item["content"]))


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
    if prompt and prompt[0].role == "system":
        raise SmaugError(f"{where}: the column system and the first message differ", fix="keep one of them")
    return (Message("system", text), *prompt)


def _checked(where: str, prompt: Messages, chosen: Messages, rejected: Messages) -> tuple[Messages, Messages, Messages]:
    if not prompt or prompt[-1].role != "user":
        found = f"ends with a message of role {prompt[-1].role}" if prompt else "has no message"
        raise SmaugError(
            f"{where}: the prompt {found}; it must end with one of role user",
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


_ADAPTERS: dict[str, Callable[[str, RawRow], Parts]] = {
    "text": _text,
    "chat": _chat,
    "ultrafeedback": _ultrafeedback,
    "orca": _orca,
    "truthy": _truthy,
    "openai": _openai,
}
