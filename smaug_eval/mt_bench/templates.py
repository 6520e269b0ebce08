"""Convert a conversation into the tokens that a model continues, and find where its answer ends.

Templates are the tokenizer's own, FastChat's by name (fastchat/conversation.py), and ``plain``, for base models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json
from smaug_eval.common.suggest import nearest

if TYPE_CHECKING:
    from fastchat.conversation import Conversation
    from transformers import PreTrainedTokenizerBase

TOKENIZER = "tokenizer"
PLAIN = "plain"


class Template(Protocol):
    """Apply a chat template bound to a tokenizer.

    Attributes:
        name: ``tokenizer``, ``plain``, or FastChat's name.
        stop: Texts at which an answer is cut.
        stop_token_ids: Tokens that end one.
    """

    name: str
    stop: tuple[str, ...]
    stop_token_ids: tuple[int, ...]

    def text(self, questions: Sequence[str], answers: Sequence[str]) -> str:
        """Return what the model reads: ``questions`` up to the one to answer, and its ``answers`` to those before."""
        ...

    def token_ids(self, questions: Sequence[str], answers: Sequence[str]) -> list[int]:
        """Return :meth:`text` in tokens."""
        ...

    def finished(self, text: str) -> str:
        """Return the answer in what the model wrote."""
        ...


def load_template(
    name: str,
    checkpoint: Path,
    system_prompt: str | None = None,
    *,
    trust_remote_code: bool = False,
    tokenizer_folder: Path | None = None,
) -> Template:
    """Load a chat template for a checkpoint.

    Args:
        name: ``tokenizer`` for the tokenizer's own, ``plain`` for questions and answers as plain text, or one of
            FastChat's.
        checkpoint: Folder of the model.
        system_prompt: Takes the place of the template's own; None keeps that.
        trust_remote_code: Whether Python code that came with the checkpoint may run.
        tokenizer_folder: Folder of the tokenizer and its chat template where that is not the model's own, as with an
            adapter that brings one.

    Raises:
        SmaugError: there is no such template, the tokenizer has none, or it has no place for a system prompt
            or makes no text, as FastChat's for hosted models.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder or checkpoint, trust_remote_code=trust_remote_code)
    ends = tuple(_end_tokens(checkpoint))
    template: Template
    if name == TOKENIZER:
        template = _TokenizersOwn(tokenizer, system_prompt, ends)
    else:
        template = _FastChats(name, find_conversation(name), tokenizer, system_prompt, ends)
    text = template.text(["?"], [])
    if system_prompt and system_prompt.strip() not in text:
        raise SmaugError(
            f"chat_template {name} has no place for a system prompt", fix="leave system_prompt out, or change template"
        )
    return template


def find_conversation(name: str) -> Conversation:
    """Return FastChat's template of that name, or ``plain``, without messages.

    Raises:
        SmaugError: there is none; FastChat itself would take its template ``one_shot``.
    """
    from fastchat.conversation import conv_templates, get_conv_template

    if name == PLAIN:
        return _plain()
    if name not in conv_templates:
        options = (TOKENIZER, PLAIN, *conv_templates)
        raise SmaugError(
            f"chat_template {name!r}: neither FastChat nor we have a template of that name{nearest(name, options)}",
            fix="name one of FastChat's, or tokenizer for the model's own",
        )
    return get_conv_template(name)


class _TokenizersOwn:
    """The chat template that came with the tokenizer."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, system_prompt: str | None, stop_token_ids: tuple[int, ...]
    ) -> None:
        if not tokenizer.chat_template:
            raise SmaugError(
                "chat_template tokenizer: this model's tokenizer has no chat template",
                fix=f"name one of FastChat's, such as vicuna_v1.1 or llama-2, or {PLAIN} for a base model",
            )
        self.name = TOKENIZER
        self.stop: tuple[str, ...] = ()
        self.stop_token_ids = stop_token_ids
        self._tokenizer, self._system_prompt = tokenizer, system_prompt

    def text(self, questions: Sequence[str], answers: Sequence[str]) -> str:
        text: str = self._applied(questions, answers, tokenize=False)
        return text

    def token_ids(self, questions: Sequence[str], answers: Sequence[str]) -> list[int]:
        return list(self._applied(questions, answers, tokenize=True))

    def finished(self, text: str) -> str:
        return _without_special_tokens(text, self._tokenizer).strip()

    def _applied(self, questions: Sequence[str], answers: Sequence[str], *, tokenize: bool) -> Any:
        from jinja2 import TemplateError

        messages = [{"role": "system", "content": self._system_prompt}] if self._system_prompt else []
        for number, question in enumerate(questions):
            messages.append({"role": "user", "content": question})
            if number < len(answers):
                messages.append({"role": "assistant", "content": answers[number]})
        try:
            return self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=tokenize, return_dict=False
            )
        except TemplateError as error:
            raise SmaugError(
                f"chat_template tokenizer: the model's own template refuses the conversation: {error}",
                fix="leave system_prompt out, or name one of FastChat's templates",
            ) from error


class _FastChats:
    """A template of FastChat's, used as its gen_model_answer.py does."""

    def __init__(
        self,
        name: str,
        conversation: Conversation,
        tokenizer: PreTrainedTokenizerBase,
        system_prompt: str | None,
        stop_token_ids: tuple[int, ...],
    ) -> None:
        if system_prompt is not None:
            conversation.set_system_message(system_prompt)
        self.name = name
        self.stop = _texts(conversation.stop_str)
        added = tokenizer.get_added_vocab()
        # Engines look for stop texts in what they show, and special tokens are not shown.
        own = (*(conversation.stop_token_ids or ()), *(added[stop] for stop in self.stop if stop in added))
        self.stop_token_ids = tuple(dict.fromkeys((*own, *stop_token_ids)))
        self._conversation, self._tokenizer = conversation, tokenizer

    def text(self, questions: Sequence[str], answers: Sequence[str]) -> str:
        conversation = self._conversation.copy()
        asker, answerer = conversation.roles[:2]
        for number, question in enumerate(questions):
            conversation.append_message(asker, question)
            conversation.append_message(answerer, answers[number] if number < len(answers) else None)
        try:
            text: str = conversation.get_prompt()
        except ValueError as error:
            raise SmaugError(
                f"chat_template {self.name}: FastChat has no text for it, it is for a hosted model", fix="name another"
            ) from error
        return text

    def token_ids(self, questions: Sequence[str], answers: Sequence[str]) -> list[int]:
        # With what the tokenizer adds to any text, such as a BOS.
        ids: list[int] = self._tokenizer([self.text(questions, answers)]).input_ids[0]
        return ids

    def finished(self, text: str) -> str:
        # A stop text at the very beginning does not count: so FastChat, and answers do begin with "###".
        ends = [place for stop in self.stop if (place := text.find(stop)) > 0]
        text = _without_special_tokens(text[: min(ends)] if ends else text, self._tokenizer).strip()
        return text.removeprefix("Assistant:").strip() if self.name == "xgen" else text


def _plain() -> Conversation:
    """Questions and answers as plain text, one blank line between them."""
    from fastchat.conversation import Conversation, SeparatorStyle

    return Conversation(
        name=PLAIN,
        system_template="",  # no place for one
        roles=("Question", "Answer"),
        messages=[],
        sep_style=SeparatorStyle.DEEPSEEK_CHAT,
        sep="\n",
        sep2="\n\n",
        stop_str="\n\n",
    )


def _texts(stop: str | list[str] | None) -> tuple[str, ...]:
    if not stop:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _end_tokens(checkpoint: Path) -> Iterator[int]:
    """The tokens at which the checkpoint's own settings end a text; chat models often have several."""
    file = checkpoint / "generation_config.json"
    ends = read_json(file).get("eos_token_id") if file.is_file() else None
    for end in ends if isinstance(ends, list) else [ends]:
        if isinstance(end, int):
            yield end


def _without_special_tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    for value in tokenizer.special_tokens_map.values():
        for token in value if isinstance(value, list) else [value]:
            text = text.replace(str(token), "")
    return text
