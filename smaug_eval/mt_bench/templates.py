"""Convert a conversation into the tokens that a model continues, and find where its answer ends.

Templates are the tokenizer's own, FastChat's by name (fastchat/conversation.py), and ``plain``, for base models. A
served model gets the messages of the conversation, which its server puts into a template, or text.
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
SERVERS_OWN = "the server's own"
"""What the template is called that a server puts messages into."""

Prompt = str | list[int] | list[dict[str, str]]
"""What a model is given: text, tokens, or the messages of a chat."""


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

    def prompt(self, questions: Sequence[str], answers: Sequence[str]) -> Prompt:
        """Return what the model is given: :meth:`text` in tokens, or for a served model as its server takes it."""
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
    return _with_place(template, name, system_prompt)


def load_served_template(
    name: str, system_prompt: str | None = None, *, chat: bool, tokenizer: str | None = None
) -> Template:
    """Load a chat template for a model that a server runs.

    For chat completions the server puts messages into its own template, and a template of FastChat gives the system
    message alone, as in gen_api_answer.py (``Conversation.to_openai_api_messages``): ``chatgpt`` is what it takes for
    OpenAI's models. For plain completions the template is applied here.

    Args:
        name: ``tokenizer`` for the model's own template, or one of FastChat's; ``plain`` only without ``chat``.
        system_prompt: Takes the place of the template's own system message; None keeps that.
        chat: Whether chat completions are requested.
        tokenizer: Folder or Hub id of the model's tokenizer, with which tokens are sent instead of text.

    Raises:
        SmaugError: there is no such template, it cannot be used in this way, or has no place for a system prompt, or
            the tokenizer cannot be loaded.
    """
    if chat:
        return ServedChat(name, system_prompt)
    if tokenizer is not None:
        try:
            return load_template(name, Path(tokenizer), system_prompt)
        except (OSError, ValueError) as error:
            raise SmaugError(
                f"engine_args.tokenizer: {tokenizer} cannot be loaded: {str(error)[:200]}",
                fix="give the folder or the Hub id of the served model's tokenizer",
            ) from error
    if name == TOKENIZER:
        raise SmaugError(
            "chat_template tokenizer: plain completions need the model's tokenizer, which is not given",
            fix="leave engine_args.chat out for chat completions, which the server puts into its own template, set "
            "engine_args.tokenizer, or name one of FastChat's templates",
        )
    return _with_place(_FastChats(name, find_conversation(name), None, system_prompt, ()), name, system_prompt)


def _with_place(template: Template, name: str, system_prompt: str | None) -> Template:
    """A template that makes text, with the system prompt in it."""
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


class ServedChat:
    """Hold the system message of chats, whose messages a server puts into its own template.

    Args:
        name: ``tokenizer``, or a template of FastChat's whose system message is sent.
        system_prompt: Sent in its place; None keeps that.

    Attributes:
        system_message: What is sent; None for none.

    Raises:
        SmaugError: there is no such template, or it is for plain text.
    """

    def __init__(self, name: str, system_prompt: str | None) -> None:
        if name == PLAIN:
            raise SmaugError(
                "chat_template plain: chat completions are put into the server's own template",
                fix="leave chat_template out, or set engine_args.chat: false for plain completions",
            )
        own = None if name == TOKENIZER else find_conversation(name).system_message
        self.system_message = (own if system_prompt is None else system_prompt) or None
        self.name = SERVERS_OWN
        self.stop: tuple[str, ...] = ()
        self.stop_token_ids: tuple[int, ...] = ()

    def text(self, questions: Sequence[str], answers: Sequence[str]) -> str:
        """Return what the messages say."""
        return "\n".join(message["content"] for message in _messages(self.system_message, questions, answers))

    def prompt(self, questions: Sequence[str], answers: Sequence[str]) -> Prompt:
        """Return the conversation in messages."""
        return _messages(self.system_message, questions, answers)

    def finished(self, text: str) -> str:
        """Return the answer in what the model wrote."""
        return text.strip()


def _messages(system_message: str | None, questions: Sequence[str], answers: Sequence[str]) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": system_message}] if system_message else []
    for number, question in enumerate(questions):
        messages.append({"role": "user", "content": question})
        if number < len(answers):
            messages.append({"role": "assistant", "content": answers[number]})
    return messages


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

    def prompt(self, questions: Sequence[str], answers: Sequence[str]) -> Prompt:
        ids: list[int] = list(self._applied(questions, answers, tokenize=True))
        return ids

    def finished(self, text: str) -> str:
        return _without_special_tokens(text, self._tokenizer).strip()

    def _applied(self, questions: Sequence[str], answers: Sequence[str], *, tokenize: bool) -> Any:
        from jinja2 import TemplateError

        messages = _messages(self._system_prompt, questions, answers)
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
        tokenizer: PreTrainedTokenizerBase | None,
        system_prompt: str | None,
        stop_token_ids: tuple[int, ...],
    ) -> None:
        if system_prompt is not None:
            conversation.set_system_message(system_prompt)
        self.name = name
        self.stop = _texts(conversation.stop_str)
        added = {} if tokenizer is None else tokenizer.get_added_vocab()
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

    def prompt(self, questions: Sequence[str], answers: Sequence[str]) -> Prompt:
        text = self.text(questions, answers)
        if self._tokenizer is None:
            return text  # which the server turns into tokens
        # With what the tokenizer adds to any text, such as a BOS.
        ids: list[int] = self._tokenizer([text]).input_ids[0]
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


def _without_special_tokens(text: str, tokenizer: PreTrainedTokenizerBase | None) -> str:
    for value in () if tokenizer is None else tokenizer.special_tokens_map.values():
        for token in value if isinstance(value, list) else [value]:
            text = text.replace(str(token), "")
    return text
