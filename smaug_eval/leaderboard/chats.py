"""Put a document's prompt into a chat template, as lm-eval does.

The text before the shots is the system message. The shots and the question are one user message, or, with
``fewshot_as_multiturn``, each shot is a question and an answer. What follows is the template's opening of the answer,
so that choices have no space before them. Source: ``ConfigurableTask.fewshot_context`` of lm-evaluation-harness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.forms import SHOT_SEPARATOR, Document, Row
from smaug_eval.leaderboard.protocol import TaskSpec

Messages = list[dict[str, str]]
MOST_TEMPLATE = 1 << 20
"""Bytes of a template's file."""


@dataclass(frozen=True)
class Chat:
    """Hold how a suite's prompts become chats.

    Attributes:
        template: Messages with ``role`` and ``content`` to the text of the prompt, the answer's opening included.
        multiturn: Whether each shot is a question and an answer of its own.
    """

    template: Callable[[Messages], str]
    multiturn: bool = False

    def document(self, spec: TaskSpec, shot_rows: Sequence[Row], document: Document) -> Document:
        """Return the document with the chat as its context.

        Args:
            spec: Its task, which does not draw its shots.
            shot_rows: As of :func:`~smaug_eval.leaderboard.protocol.build_documents`.
            document: The document.
        """
        return {**document, "ctx": self.template(self._messages(spec, shot_rows[: spec.num_fewshot], document))}

    def _messages(self, spec: TaskSpec, shots: Sequence[Row], document: Document) -> Messages:
        messages = [_message("system", spec.header)] if spec.header else []
        if self.multiturn:
            for row in shots:
                question, answer = turn(spec, row)
                messages += [_message("user", question), _message("assistant", answer)]
            return [*messages, _message("user", document["query"])]
        solved = "".join(spec.form.shot(row) + SHOT_SEPARATOR for row in shots)
        return [*messages, _message("user", solved + document["query"])]


def turn(spec: TaskSpec, row: Row) -> tuple[str, str]:
    """Return the question of a shot and its answer."""
    question: str = spec.form.document(row, "")["query"]
    return question, spec.form.shot(row).removeprefix(f"{question} ")


def jinja_chat(text: str, *, multiturn: bool = False) -> Chat:
    """Return the chat of a Jinja template, which knows no special tokens of a tokenizer."""
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    def render(messages: Messages) -> str:
        try:
            rendered, _ = render_jinja_template([messages], chat_template=text, add_generation_prompt=True)
        except TemplateError as error:
            raise SmaugError(f"the chat template cannot be rendered: {error}", fix="check the template") from error
        return str(rendered[0])

    return Chat(render, multiturn)


def tokenizer_chat(tokenizer: Any, *, multiturn: bool = False) -> Chat:
    """Return the chat of a tokenizer's own template; one that refuses a system message is given none, as in lm-eval.

    Raises:
        SmaugError: the tokenizer has no template, or one that cannot be rendered.
    """
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise SmaugError("the tokenizer has no chat template", fix="name another model, or a .jinja file")

    def render(messages: Messages) -> str:
        for tried in (messages, [message for message in messages if message["role"] != "system"]):
            try:
                return str(tokenizer.apply_chat_template(tried, tokenize=False, add_generation_prompt=True))
            except TemplateError as error:
                reason = error
        raise SmaugError(f"the chat template cannot be rendered: {reason}", fix="check the template") from reason

    return Chat(render, multiturn)


def read_template(path: Path) -> str:
    """Return the text of a Jinja file.

    Raises:
        SmaugError: it cannot be read, or is too large for a template.
    """
    try:
        if path.stat().st_size > MOST_TEMPLATE:
            raise SmaugError(f"{path}: {path.stat().st_size:,} bytes are no template", fix="give a Jinja file")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SmaugError(f"{path} cannot be read: {error}", fix="give a Jinja file") from error


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
