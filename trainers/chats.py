"""Format rows of messages as text with the tokenizer's chat template, which must use all that the rows give.

A template is a program that reads what it likes of a message. Whether it reads a key is found out by trial: the
conversation is rendered with and without it. Calls of tools, a list of tools, documents, and the reasoning of an answer
must leave a trace, or the row is refused; ids and names need not.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.pairs.pair import SAID_KEYS

Row = Mapping[str, Any]
Message = Mapping[str, Any]

_SIDES = ("chosen", "rejected")
_MARK = "SMAUGEVALMARK"
_REASONING = ("reasoning_content", "reasoning", "thinking")
_SETTINGS = "chat_template_kwargs"
# Contents and arguments of calls in other forms that say the same: templates differ in what they take.
_FORMS = (
    *(("empty", "given"), ("null", "given"), ("given", "object"), ("given", "text")),
    *(("empty", "object"), ("empty", "text"), ("null", "object"), ("null", "text")),
)


@dataclass(frozen=True)
class ChatTexts:
    """Hold a pair as text.

    Attributes:
        prompt: The prompt with the template's opening of an answer.
        with_chosen: The prompt and the chosen completion.
        with_rejected: The prompt and the rejected one.
        reopened: Whether the template opens an answer otherwise than it writes one, so that the texts differ from the
            opening on.
        altered: Whether the template leaves out or changes a part of what a completion says.
        ends_turns: Whether the template writes more than white space behind an answer: an end of its own.
        row: The row in the form that the template took.
    """

    prompt: str
    with_chosen: str
    with_rejected: str
    reopened: bool
    altered: bool
    ends_turns: bool
    row: Row


class _PassedOver(SmaugError):
    """The template takes a row, and does not write something that matters."""


class ChatTemplate:
    """Apply a tokenizer's chat template.

    Args:
        tokenizer: Has the template.
        settings: What the template is given beside the messages, such as ``enable_thinking``; a row's own
            ``chat_template_kwargs`` take precedence.
        date: The day that it takes for today.
        system_prompt: A system message for rows without one; None for none.

    Attributes:
        reads_date: Whether it has asked for the date.
        unread: Keys that it was given and does not read, and that need not be read.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        settings: Mapping[str, Any] | None = None,
        date: datetime.date,
        system_prompt: str | None = None,
    ) -> None:
        self._tokenizer, self._settings = tokenizer, dict(settings or {})
        self._system = system_prompt
        self._midnight = datetime.datetime.combine(date, datetime.time())
        self._found: dict[tuple[object, ...], bool] = {}
        self._ends_turns: bool | None = None
        self.reads_date = False
        self.unread: set[str] = set()

    def texts(self, row: Row, number: int) -> ChatTexts:
        """Return a row of messages as text.

        Contents that are null and arguments of calls are given to the template in the form that it takes: null or
        empty, object or JSON text.

        Args:
            row: ``prompt``, ``chosen``, ``rejected``: messages; and ``tools``, ``documents``, ``chat_template_kwargs``.
            number: Of the row, for messages.

        Raises:
            SmaugError: the template refuses the row, passes over what matters in it, or does not write the prompt the
                same way with and without an answer.
        """
        if self._system is not None and row["prompt"][0]["role"] not in ("system", "developer"):
            row = {**row, "prompt": [{"role": "system", "content": self._system}, *row["prompt"]]}
        if row["prompt"][-1]["role"] == "assistant":
            return self._continued(row, number)
        try:
            return self._texts(row, number)
        except SmaugError as error:
            faults = [error]
        for other in _other_forms(row):
            try:
                return self._texts(other, number)
            except SmaugError as error:
                faults.append(error)
        raise next((fault for fault in faults if isinstance(fault, _PassedOver)), faults[0])

    def head(self, row: Row, number: int) -> str:
        """Return the beginning of the prompt as text: all before the first message that is not the system's.

        Args:
            row: In the form that the template took; see :class:`ChatTexts`.
            number: Of the row.
        """
        prompt, settings = row["prompt"], self._settings_of(row)
        first = next((i for i, each in enumerate(prompt) if each["role"] not in ("system", "developer")), None)
        if first is None:
            return ""
        marked = [*prompt[:first], {**prompt[first], "content": _MARK}, *prompt[first + 1 :]]
        try:
            text, mark, _ = self._rendered(marked, settings, number).partition(_MARK)
        except SmaugError:
            return ""
        return text if mark else ""

    def _continued(self, row: Row, number: int) -> ChatTexts:
        """A row whose prompt ends with the beginning of the answer, which both completions continue.

        Raises:
            SmaugError: also where the template writes that beginning otherwise than it is given.
        """
        begun = row["prompt"][-1]["content"]
        whole = {
            side: [{**row[side][0], "content": begun + row[side][0]["content"]}, *row[side][1:]] for side in _SIDES
        }
        found = self.texts({**row, **whole, "prompt": row["prompt"][:-1]}, number)
        prompt = found.prompt + begun
        if not (found.with_chosen.startswith(prompt) and found.with_rejected.startswith(prompt)):
            raise SmaugError(
                f"row {number}: the chat template writes the beginning of an answer otherwise than the prompt has it",
                fix="end the prompt with the user's message, and give completions as a whole",
            )
        return replace(found, prompt=prompt)

    def _texts(self, row: Row, number: int) -> ChatTexts:
        settings, prompt = self._settings_of(row), row["prompt"]
        opened = self._rendered(prompt, settings, number, opens_answer=True)
        wholes = [self._rendered([*prompt, *row[side]], settings, number) for side in _SIDES]
        reopened = not all(whole.startswith(opened) for whole in wholes)
        if reopened and not self._differ_from_the_opening_on(prompt, [opened, *wholes], settings, number):
            raise SmaugError(
                f"row {number}: the chat template is not prefix-stable: with the answer it writes the prompt otherwise "
                "than without, so it is unclear where the completion begins",
                fix="change the tokenizer's chat template, or give prompt and completions as text",
            )
        for side, whole in zip(_SIDES, wholes, strict=True):
            self._check_read([*prompt, *row[side]], len(prompt), whole, settings, number)
        self._check_row_read(row, wholes[0], settings, number)
        self._check_form(row, [*prompt, *row["chosen"], *row["rejected"]], wholes, settings, number)
        answers = [(each, whole) for side, whole in zip(_SIDES, wholes, strict=True) for each in row[side]]
        return ChatTexts(
            opened,
            wholes[0],
            wholes[1],
            reopened=reopened,
            altered=any((each["content"] or "").strip() not in whole for each, whole in answers),
            ends_turns=self._ends_turns_of(row, settings, number),
            row=row,
        )

    def _differ_from_the_opening_on(
        self, prompt: Sequence[Message], texts: Sequence[str], settings: Mapping[str, Any], number: int
    ) -> bool:
        """Whether the texts have the prompt in common, but for the special tokens and the white space at its end."""
        before = self._rendered(prompt, settings, number)
        ids, *others = self._tokenizer([before, *texts], add_special_tokens=False, verbose=False)["input_ids"]
        shared = next((i for i in range(len(ids)) if any(other[i : i + 1] != ids[i : i + 1] for other in others)), None)
        rest = [] if shared is None else ids[shared:]
        return not self._tokenizer.decode(rest, skip_special_tokens=True).strip()

    def _ends_turns_of(self, row: Row, settings: Mapping[str, Any], number: int) -> bool:
        """Whether there is an end of turn of the template's own; the first row decides."""
        if self._ends_turns is None:
            answer = {"role": "assistant", "content": _MARK}
            try:
                text = self._rendered([*row["prompt"], answer], settings, number)
            except SmaugError:
                return True
            self._ends_turns = bool(text.rpartition(_MARK)[2].strip())
        return self._ends_turns

    def _settings_of(self, row: Row) -> dict[str, Any]:
        """Everything that the template is given beside the messages."""
        return {
            "tools": row.get("tools") or None,
            "documents": row.get("documents") or None,
            **self._settings,
            **(row.get(_SETTINGS) or {}),
        }

    def _rendered(
        self, messages: Sequence[Message], settings: Mapping[str, Any], number: int, *, opens_answer: bool = False
    ) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                list(messages),
                add_generation_prompt=opens_answer,
                tokenize=False,
                **{"strftime_now": self._date, **settings},
            )
        except (TemplateError, ValueError, TypeError, LookupError, AttributeError) as error:  # it may do anything
            raise SmaugError(
                f"row {number}: the model's chat template refuses the messages: {error}",
                fix="give messages with the roles, in the order, that the template takes",
            ) from error
        return str(text)

    def _date(self, form: str) -> str:
        """Takes the place of the clock that transformers gives to templates."""
        self.reads_date = True
        return self._midnight.strftime(form)

    def _check_form(
        self, row: Row, messages: Sequence[Message], wholes: Sequence[str], settings: Mapping[str, Any], number: int
    ) -> None:
        """Refuse a form in which the template writes ``None`` for null, or JSON text as a quoted string."""
        if any(message["content"] is None for message in messages) and any("None" in whole for whole in wholes):
            for side, whole in zip(_SIDES, wholes, strict=True):
                said = [_formed(message, "empty", "given") for message in (*row["prompt"], *row[side])]
                if whole.count("None") > self._rendered(said, settings, number).count("None"):
                    raise SmaugError(
                        f"row {number}: the model's chat template writes None where a message's content is null",
                        fix="give the content as text",
                    )
        quoted = (
            json.dumps(text, ensure_ascii=False)[1:-1] for message in messages for text in _texts_of_arguments(message)
        )
        if any(text in whole for text in quoted if "\\" in text for whole in wholes):
            raise SmaugError(
                f"row {number}: the model's chat template writes the arguments of a call as a quoted string",
                fix="give them as an object",
            )

    def _check_read(
        self, messages: Sequence[Message], prompt: int, text: str, settings: Mapping[str, Any], number: int
    ) -> None:
        """Find out what the template passes over of some messages, the first ``prompt`` of which are the prompt's.

        Raises:
            SmaugError: it matters.
        """
        for index, message in enumerate(messages):
            answers = index >= prompt
            for key, without in _trials(message):
                place = (
                    answers,
                    index == len(messages) - 1,
                    _kind(message["content"]),
                    isinstance(message[key], list) and len(message[key]) > 1,
                )
                if self._reads(
                    (key, message["role"], *place),
                    [*messages[:index], without, *messages[index + 1 :]],
                    text,
                    settings,
                    number,
                ):
                    continue
                if key == "content":
                    raise _PassedOver(
                        f"row {number}: the model's chat template does not write messages of role {message['role']}",
                        fix="give them a role that it writes, such as system or user",
                    )
                if key in SAID_KEYS and (answers or key not in _REASONING):
                    raise _PassedOver(
                        f"row {number}: the model's chat template does not read {key} of a message of role "
                        f"{message['role']}, so that it would be lost",
                        fix="train a model whose template does, or use the key that this one reads",
                    )
                self.unread.add(key if answers or key not in _REASONING else f"{key} of earlier turns")

    def _check_row_read(self, row: Row, text: str, settings: Mapping[str, Any], number: int) -> None:
        """Check that the template reads what stands beside the messages."""
        messages = [*row["prompt"], *row["chosen"]]
        for column in ("tools", "documents"):
            if row.get(column) and not self._reads(
                (column, messages[0]["role"]), messages, text, {**settings, column: None}, number
            ):
                raise _PassedOver(
                    f"row {number}: the model's chat template does not read {column}, so that they would be lost",
                    fix=f"train a model whose template does, or remove {column} from rows that do not need them",
                )
        for name in (*self._settings, *(row.get(_SETTINGS) or {})):
            if not re.search(rf"\b{re.escape(name)}\b", self._source):
                self.unread.add(f"{_SETTINGS}.{name}")

    @cached_property
    def _source(self) -> str:
        return str(self._tokenizer.chat_template)

    def _reads(
        self, case: tuple[object, ...], messages: Sequence[Message], text: str, settings: Mapping[str, Any], number: int
    ) -> bool:
        """Whether a change that is no matter to a template that does not read something alters the text.

        Tried once for each case.
        """
        if case not in self._found:
            try:
                self._found[case] = self._rendered(messages, settings, number) != text
            except SmaugError:
                self._found[case] = True
        return self._found[case]


def _other_forms(row: Row) -> list[Row]:
    """The row in every other form that says the same."""
    found: list[Row] = [row]
    for content, arguments in _FORMS:
        sides = {side: [_formed(message, content, arguments) for message in row[side]] for side in ("prompt", *_SIDES)}
        if (form := {**row, **sides}) not in found:
            found.append(form)
    return found[1:]


def _trials(message: Message) -> Iterator[tuple[str, Message]]:
    """Each key of a message that a template may pass over, and the message without it."""
    if message["role"] in ("system", "developer", "tool") and (message["content"] or "").strip():
        yield "content", {**message, "content": _MARK}
    for key, value in message.items():
        if key in ("role", "content"):
            continue
        if key in SAID_KEYS and isinstance(value, list) and len(value) > 1:
            yield key, {**message, key: value[:-1]}
        else:
            yield key, {name: part for name, part in message.items() if name != key}


def _kind(content: str | None) -> str:
    return "null" if content is None else "text" if content.strip() else "empty"


def _formed(message: Message, content: str, arguments: str) -> Message:
    """A message that says the same in another form."""
    formed = dict(message)
    if content == "empty" and formed["content"] is None:
        formed["content"] = ""
    if content == "null" and formed["content"] == "" and formed.get("tool_calls"):
        formed["content"] = None
    if arguments != "given" and formed.get("tool_calls"):
        formed["tool_calls"] = [_formed_call(call, arguments) for call in formed["tool_calls"]]
    return formed


def _formed_call(call: Any, form: str) -> Any:
    """A call whose arguments are an ``object``, or JSON ``text``; what stands around them as it is."""
    if not isinstance(call, Mapping):
        return call
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _formed_call(call["function"], form)}
    arguments = call.get("arguments")
    if form == "text" and isinstance(arguments, Mapping):
        return {**call, "arguments": json.dumps(arguments, ensure_ascii=False)}
    found = _object_in(arguments) if form == "object" else None
    return call if found is None else {**call, "arguments": found}


def _object_in(arguments: Any) -> dict[str, Any] | None:
    """The object that a text is the JSON of; None where it is none."""
    try:
        found = json.loads(arguments) if isinstance(arguments, str) else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _texts_of_arguments(message: Message) -> Iterator[str]:
    """The arguments of a message's calls that are the JSON text of an object."""
    for call in message.get("tool_calls") or ():
        inner = call.get("function", call) if isinstance(call, Mapping) else None
        arguments = inner.get("arguments") if isinstance(inner, Mapping) else None
        if isinstance(arguments, str) and _object_in(arguments) is not None:
            yield arguments
