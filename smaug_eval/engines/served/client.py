"""Ask a served model: for a prompt's log-probabilities, and for continuations and chat answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from smaug_eval.common.errors import Incomplete
from smaug_eval.common.served.budget import Budget, Tokens, roughly_tokens
from smaug_eval.common.served.client import ServedClient, TryAgain
from smaug_eval.common.served.endpoint import Endpoint
from smaug_eval.common.served.faults import JudgeProblem, Kind
from smaug_eval.common.served.replies import message_texts
from smaug_eval.engines.generation import Generation, Sampling
from smaug_eval.engines.served.echo import Echoed, NoEcho, read_echo

Prompt = str | list[int]
STOPS = 4
"""Texts that end a generation, as many as OpenAI's API takes."""
_FIXES = {
    Kind.KEY: "check the key in the environment variable {key_env}, then run again; what is done is kept",
    Kind.ADDRESS: "check the model's name (model.path api:NAME, or engine_args.model) and engine_args.base_url",
    Kind.NONSENSE: "check engine_args.base_url: this is no OpenAI-compatible endpoint; what is done is kept",
    Kind.TOO_LONG: "set engine_args.max_length to the server's context, or serve the model with a longer one",
    Kind.MAX_TOKENS: "lower max_gen_toks (of MT-Bench max_new_tokens), or serve the model with a longer context",
    Kind.SYSTEM: "leave out system_instruction (of MT-Bench system_prompt)",
}


class NoLogLikelihoods(Incomplete):
    """Report that a server gives no log-probabilities of prompts, without which choices cannot be scored."""


@dataclass(frozen=True)
class ModelRequest:
    """Hold one request.

    Attributes:
        path: ``completions`` or ``chat``.
        body: Its keys, the model's name apart.
        most: Tokens that it may cost.
        read: Takes the JSON of the response; gives the answer.
        echo: Whether it asks for the prompt's own log-probabilities.
        bends: Whether it is made without a temperature that the server refuses, and ends where the context does.
    """

    path: str
    body: dict[str, Any]
    most: Tokens
    read: Callable[[Any], Any]
    echo: bool = False
    bends: bool = False


@dataclass(frozen=True)
class ModelAnswer:
    """Hold what a served model answered.

    Attributes:
        value: The tokens of a prompt, or a :class:`~smaug_eval.engines.generation.Generation`.
        attempts: Times the request was made.
    """

    value: Any
    attempts: int = field(default=1)


class ModelClient(ServedClient):
    """Ask a served model; use it as ``async with``.

    Args:
        endpoint: Where it is.
        budget: Counts and limits the requests.
        notice: Receives lines for the user.
        extra: Further keys of each request.
    """

    def __init__(
        self, endpoint: Endpoint, budget: Budget, notice: Callable[[str], None], extra: Mapping[str, Any]
    ) -> None:
        super().__init__(endpoint, budget, notice)
        self._extra = dict(extra)
        self._dropped: set[str] = set()
        self._renamed = False
        self._few_stops = False

    async def echo(self, prompt: Prompt) -> list[Echoed]:
        """Return a prompt's tokens with their log-probabilities.

        Raises:
            NoLogLikelihoods: the server does not give them.
            CallFailed: there is no answer; see :meth:`ServedClient._ask` for what else is raised.
        """
        body = {"prompt": prompt, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
        sent = len(prompt) if isinstance(prompt, list) else None

        def read(content: Any) -> list[Echoed]:
            try:
                return read_echo(content, sent)
            except NoEcho as error:
                raise self.no_echo(str(error)) from None

        answered = await self._ask(ModelRequest("completions", body, Tokens(_size(prompt), 1), read, echo=True))
        found: list[Echoed] = answered.value
        return found

    def no_echo(self, why: str) -> NoLogLikelihoods:
        """Return the error for a server without log-probabilities of prompts."""
        return NoLogLikelihoods(
            f"the {self._endpoint.where_in_words} gives no log-likelihoods: {why}",
            fix="serve it by vLLM or llama-cpp-python, whose completions take echo with logprobs (with engine_args."
            "tokenizer tokens are sent, without it text), or evaluate tasks that generate",
        )

    async def complete(self, prompt: Prompt, settings: Mapping[str, Any], *, bends: bool = False) -> Generation:
        """Continue a prompt; ``settings`` are keys of the request, ``max_tokens`` among them.

        Args:
            prompt: Text or tokens.
            settings: Keys of the request.
            bends: As of :class:`ModelRequest`; what was left out is in the answer's ``left_out``.
        """
        return await self._written("completions", {"prompt": prompt, **settings}, _size(prompt), bends)

    async def chat(
        self, messages: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], *, bends: bool = False
    ) -> Generation:
        """Answer a chat; ``settings`` and ``bends`` as of :meth:`complete`."""
        size = sum(roughly_tokens(str(message.get("content"))) for message in messages)
        return await self._written("chat", {"messages": list(messages), **settings}, size, bends)

    async def _written(self, path: str, body: dict[str, Any], size: int, bends: bool) -> Generation:
        most = Tokens(size, int(body["max_tokens"]))
        answered = await self._ask(ModelRequest(path, body, most, read_generation, bends=bends))
        found: Generation = answered.value
        return found

    async def _send(self, *call: Any) -> ModelAnswer | None:
        (asked,) = call
        left_out = tuple(sorted(self._dropped & asked.body.keys()))
        create: Any = self._client.chat.completions if asked.path == "chat" else self._client.completions
        sent = self._worded(asked.body)
        body = dict(sent)
        extra = {**{key: body.pop(key) for key in list(body) if key not in _OPENAI}, **self._extra}

        def send() -> Any:
            return create.with_raw_response.create(
                model=self._endpoint.model, **body, **({"extra_body": extra} if extra else {})
            )

        def read(content: Any) -> tuple[ModelAnswer, Tokens]:
            answer = asked.read(content)
            written = roughly_tokens(answer.text) if isinstance(answer, Generation) else 1
            if isinstance(answer, Generation) and left_out:
                answer = replace(answer, left_out=left_out)
            return ModelAnswer(answer), Tokens(asked.most.prompt, written)

        def reword(problem: JudgeProblem) -> None:
            if asked.echo and _refuses_echo(problem):
                raise self.no_echo(self._safe(problem.message))
            if _leaves_no_room(problem, asked):
                del asked.body["max_tokens"]  # the server then writes until its context ends
            elif not self._reworded(problem, sent, bends=asked.bends):
                raise self._fault(problem)

        return await self._exchange(asked.most, send, read, reword)

    def fix(self, kind: Kind | None) -> str:
        """Return what fixes a refusal of a kind."""
        text = _FIXES.get(kind or Kind.REQUEST, "correct what the server names, then run again; what is done is kept")
        return text.format(key_env=self._endpoint.key_env)

    def _worded(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A request in the words that the server takes."""
        found = {key: value for key, value in body.items() if key not in self._dropped and value is not None}
        if self._renamed and "max_tokens" in found and "messages" in found:
            found["max_completion_tokens"] = found.pop("max_tokens")
        if self._few_stops and found.get("stop"):
            found["stop"] = found["stop"][:STOPS]
        return found

    def _reworded(self, problem: JudgeProblem, body: Mapping[str, Any], *, bends: bool) -> bool:
        """Word later requests otherwise where a refusal names a parameter; whether they are."""
        if problem.status not in (400, 422):
            return False
        told = None
        if "messages" in body and "max_tokens" in body and problem.names("max_tokens"):
            if problem.kind not in (Kind.MAX_TOKENS, Kind.TOO_LONG):
                self._renamed, told = True, "it takes max_completion_tokens, not max_tokens"
        elif len(body.get("stop") or ()) > STOPS and problem.names("stop"):
            self._few_stops, told = True, f"it takes {STOPS} texts that stop it; the others cut the answer here"
        elif "seed" in body and problem.names("seed"):
            self._dropped, told = self._dropped | {"seed"}, "it takes no seed: no answer can be had twice alike"
        elif (body.get("temperature") == 0 or (bends and "temperature" in body)) and problem.names("temperature"):
            told = f"it takes no temperature {body['temperature']:g}, and writes at its own"
            self._dropped = self._dropped | {"temperature"}
        elif "stop_token_ids" in body and problem.names("stop_token_ids"):
            self._dropped, told = self._dropped | {"stop_token_ids"}, "it takes no tokens that end an answer"
        if told is None:
            return False
        self._notice(f"the model refuses a parameter ({self._safe(problem.message)}): {told}")
        return True


_OPENAI = {
    *("prompt", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed", "echo"),
    *("logprobs", "n", "frequency_penalty", "presence_penalty"),
}
"""Keys that the client's own functions take; others go past them."""


def read_generation(content: Any) -> Generation:
    """Return what a model wrote, by the JSON of a response. An empty text is an answer, too.

    Raises:
        TryAgain: there is no text.
    """
    choices = content.get("choices") if isinstance(content, Mapping) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, Mapping):
        raise TryAgain("the response has no choices[0]", lasting=True)
    message = choice.get("message")
    finish = choice.get("finish_reason")
    thinking = ""
    if isinstance(message, Mapping):
        text, thinking = message_texts(message)
    elif isinstance(choice.get("text"), str):
        text = choice["text"]
    else:
        raise TryAgain("the response has neither choices[0].text nor choices[0].message", lasting=True)
    usage = content.get("usage")
    counted = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    written = counted if isinstance(counted, int) else roughly_tokens(text)
    return Generation(text, written, finish if isinstance(finish, str) else "stop", thinking)


def sampling_keys(sampling: Sampling) -> dict[str, Any]:
    """Return the keys of a request that samples so; a seed only where tokens are drawn."""
    keys: dict[str, Any] = {"max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature}
    if sampling.temperature:
        keys["seed"] = sampling.seed
    if sampling.stop:
        keys["stop"] = list(sampling.stop)
    if sampling.stop_token_ids:
        keys["stop_token_ids"] = list(sampling.stop_token_ids)
    return keys


def _leaves_no_room(problem: JudgeProblem, asked: ModelRequest) -> bool:
    """Whether a chat is refused since its longest answer has no room, where a shorter one will do.

    Only of chats: without ``max_tokens`` plain completions end after 16 tokens.
    """
    shortens = asked.bends and asked.path == "chat" and "max_tokens" in asked.body
    return shortens and problem.kind in (Kind.MAX_TOKENS, Kind.TOO_LONG)


def _refuses_echo(problem: JudgeProblem) -> bool:
    """Whether a refusal is of ``echo`` or ``logprobs``; llama.cpp's server says so with status 500."""
    words = problem.message.lower()
    named = any(word in words for word in ("echo", "logprob"))
    if problem.status >= 500 and problem.status != 501:
        return named and "support" in words
    return problem.status in (400, 404, 405, 422, 501) and (named or "prompt" in words or problem.kind is Kind.ADDRESS)


def _size(prompt: Prompt) -> int:
    return len(prompt) if isinstance(prompt, list) else roughly_tokens(prompt)
