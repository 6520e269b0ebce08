"""Score with a model behind an OpenAI-compatible endpoint, as an lm-eval model with a journal."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.models.api_models import JsonChatStr
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text

from smaug_eval._version import __version__
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import canonical_json
from smaug_eval.common.redaction import redacted_record, redacted_values
from smaug_eval.engines.encoding import tokenizer_sha256
from smaug_eval.engines.generation import Generation, Sampling
from smaug_eval.engines.journal import versions
from smaug_eval.engines.sampled import drawn_apart
from smaug_eval.engines.served.calls import answers
from smaug_eval.engines.served.client import ModelClient, Prompt, sampling_keys
from smaug_eval.engines.served.context import told_length
from smaug_eval.engines.served.echo import Echoed, NoEcho, behind
from smaug_eval.engines.served.settings import ApiSettings, api_settings
from smaug_eval.engines.shared import Answer, Request, ScoredText, ScoringJob, SharedPrefixes, request_key
from smaug_eval.engines.trie import Text
from smaug_eval.models.checkpoint import served_name

DEFAULT_LENGTH = 2048
"""Tokens of a context of which nobody says how long it is, as in lm-eval's own models of this kind."""
PROBE = ("The capital of France is", "A bird sat on the roof and sang", " Paris, a city on the river Seine.")
"""Two contexts and a continuation, which no model finds equally likely behind both."""

log = logging.getLogger(__name__)


class ApiEngine(SharedPrefixes):
    """Ask a served model in the place of one that is loaded here.

    Log-likelihoods come from completions with ``echo`` and ``logprobs``. With a tokenizer tokens are sent and come
    back one by one; without, text is, and the tokens of an answer are found by their text.

    Attributes:
        settings: How the model is reached.
        served_name: Its name there.
    """

    backend = "causal"
    add_bos_token = False

    def __init__(self, pretrained: str, **engine_args: Any) -> None:
        """Connect to a served model.

        Args:
            pretrained: ``api:NAME``, or a folder, whose tokenizer is taken and of which ``model`` says what it is
                called there.
            **engine_args: As of :class:`~smaug_eval.engines.served.settings.ApiSettings`.

        Raises:
            SmaugError: a setting is wrong, or the model has no name there.
            Incomplete: the server does not answer.
        """
        super().__init__()
        self.settings: ApiSettings = api_settings(engine_args)
        name = self.settings.model or served_name(pretrained)
        if name is None:
            raise SmaugError(
                f"engine api: what is {pretrained} called on {self.settings.base_url}?",
                fix="set engine_args.model, or give the model as api:NAME",
            )
        self.served_name = name
        self._endpoint = self.settings.endpoint(name)
        self._budget = self.settings.budget()
        self._source = self.settings.tokenizer or (pretrained if served_name(pretrained) is None else None)
        self._gives_echo = False
        told = told_length(self._endpoint)
        self._max_length = self.settings.max_length or told or DEFAULT_LENGTH

    def journal_scope(self) -> Mapping[str, Any]:
        """Return where the model is and what it is called; its weights cannot be known."""
        settings = self.settings
        return {
            "engine": "smaug-api",
            "model": self.served_name,
            "base_url": redacted_record(settings.base_url),
            "tokenizer": None if self.tokenizer is None else tokenizer_sha256(self.tokenizer),
            "settings": [self.max_length, bool(settings.chat), redacted_values(settings.extra_body)],
            "versions": {"smaug-eval": __version__, **versions("lm-eval")},
        }

    # What lm-eval asks of a model

    @cached_property
    def tokenizer(self) -> Any:
        """Return the model's tokenizer; None where only the server has it."""
        if self._source is None:
            return None
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self._source, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise SmaugError(
                f"engine_args.tokenizer: {self._source} cannot be loaded: {str(error)[:200]}",
                fix="give the folder or the Hub id of the served model's tokenizer, or leave it out to send text",
            ) from error

    @property
    def tokenizer_name(self) -> str:
        """Return the name under which lm-eval keeps requests made with its chat template."""
        return str(self._source or self.served_name).replace("/", "__")

    @property
    def max_length(self) -> int:
        """Return the tokens that a request may have, so that one more can be predicted and one generated."""
        return max(1, self._max_length - 2)

    @property
    def max_gen_toks(self) -> int:
        """Return the tokens of a generation where the task names none."""
        return self.settings.max_gen_toks

    @property
    def eot_token_id(self) -> int:
        """Return the token that ends a text."""
        return int(self._needed_tokenizer().eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """Return the token before a text that has no context: BOS, else EOS."""
        tokenizer = self._needed_tokenizer()
        return int(tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id)

    def tok_encode(self, string: Any, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return the tokens of a text; none where only the server can tell."""
        if self.tokenizer is None or not isinstance(string, str):
            return []
        found: list[int] = self.tokenizer.encode(string, add_special_tokens=bool(add_special_tokens))
        return found

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> Any:
        """Return a chat as the server takes it, or as the tokenizer writes it for plain completions."""
        if self.settings.chat:
            return JsonChatStr(json.dumps([{**turn} for turn in chat_history], ensure_ascii=False))
        return self._needed_tokenizer().apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    # Log-likelihoods

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Answer]:
        """Compute lm-eval's ``loglikelihood``."""
        if any(not isinstance(request.args[0], str) for request in requests):
            raise SmaugError(
                "log-likelihoods of a chat: a server's chat completions give none",
                fix="set engine_args.tokenizer and leave chat out: its template is applied here",
            )
        if self.tokenizer is not None:
            return super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        self._documents = [(request.task_name, request.doc_id) for request in requests]
        try:
            found: list[Answer] = self._loglikelihood_tokens(
                [(request.args, [], []) for request in requests], disable_tqdm=disable_tqdm
            )
        finally:
            self._documents = ()
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Compute lm-eval's ``loglikelihood_rolling``, of tokens alone."""
        self._needed_tokenizer()
        return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, **options: Any
    ) -> list[Answer]:
        if self.tokenizer is not None:
            return super()._loglikelihood_tokens(requests, disable_tqdm=disable_tqdm, **options)
        pairs = [strings for strings, _, _ in requests if strings is not None]
        keys = [request_key(canonical_json(["text", *pair])) for pair in pairs]
        texts = dict(zip(keys, (_shifted(*pair) for pair in pairs), strict=True))
        documents = self._documents if len(self._documents) == len(pairs) else range(len(pairs))
        job = ScoringJob("loglikelihood", pairs, keys, documents, [1] * len(pairs))

        async def ask(client: ModelClient, key: str) -> Answer:
            context, continuation = texts[key]
            try:
                return _total(behind(await client.echo(context + continuation), continuation))
            except NoEcho as error:
                raise client.no_echo(f"{error}; with engine_args.tokenizer its tokens would be sent") from None

        return [(float(one), bool(two)) for one, two in self._by_key(job, ask, "Scoring requests", disable_tqdm)]

    def score_texts(self, texts: Sequence[Text], known: Collection[int]) -> Iterator[Sequence[ScoredText]]:
        """Score texts one request each."""
        self._check_echo()

        async def ask(client: ModelClient, index: int) -> list[Echoed]:
            return await client.echo([*map(int, texts[index].ids)])

        for index, tokens in self._answers(ask, [index for index in range(len(texts)) if index not in known]):
            self.count_computed(len(tokens))
            own = tokens[len(tokens) - texts[index].scored :]
            log_probs = np.array([token.log_prob for token in own], np.float32)
            yield [(index, log_probs, np.array([token.greedy for token in own], bool))]

    def _check_echo(self) -> None:
        """Make sure, once, that the server scores the prompt it is given: some take ``echo`` and ignore it."""
        if self._gives_echo:
            return

        async def ask(client: ModelClient, context: str) -> float:
            continuation = PROBE[2]
            if self.tokenizer is None:
                tokens = await client.echo(context + continuation)
                try:
                    return _total(behind(tokens, continuation))[0]
                except NoEcho as error:
                    raise client.no_echo(str(error)) from None
            before, whole = self.tok_encode(context), self.tok_encode(context + continuation)
            tokens = await client.echo(whole)
            if "Paris" not in "".join(token.text for token in tokens):
                raise client.no_echo("it read other words than the tokens it was sent: the tokenizer is another one")
            return _total(tokens[len(before) :])[0]

        found = dict(self._answers(ask, PROBE[:2]))
        if found[PROBE[0]] == found[PROBE[1]]:
            raise self._connect().no_echo(f"the same answer is as likely behind two contexts ({found[PROBE[0]]:.4f})")
        self._gives_echo = True

    # Generation

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Compute lm-eval's ``generate_until``; the server samples as the task says, greedily if it says nothing."""
        requests = drawn_apart(requests)
        settings = [normalize_gen_kwargs(request.args[1], self.max_gen_toks) for request in requests]
        stops = [_stops(each.get("until")) for each in settings]
        told = zip(requests, settings, stops, strict=True)
        bodies = [self._body(request.args[0], each, stop) for request, each, stop in told]
        keys = [request_key(canonical_json(["generate", body])) for body in bodies]
        by_key, stop_of = dict(zip(keys, bodies, strict=True)), dict(zip(keys, stops, strict=True))
        documents = [(request.task_name, request.doc_id) for request in requests]
        job = ScoringJob("generate_until", [request.args for request in requests], keys, documents, [1] * len(keys))

        async def ask(client: ModelClient, key: str) -> str:
            body = dict(by_key[key])
            chat, prompt = body.pop("messages", None), body.pop("prompt", None)
            written = await (client.complete(prompt, body) if chat is None else client.chat(chat, body))
            return str(postprocess_generated_text(written.text, stop_of[key], None))

        return list(map(str, self._by_key(job, ask, "Continuing prompts", disable_tqdm)))

    def _body(self, context: Any, settings: Mapping[str, Any], stops: list[str]) -> dict[str, Any]:
        """A request of chat or plain completions."""
        most = int(settings["max_gen_toks"])
        sampled = {key: settings[key] for key in settings if key not in ("until", "max_gen_toks", "do_sample")}
        temperature = sampled.pop("temperature", 1.0)
        if not settings.get("do_sample"):
            temperature, sampled = 0.0, {}
        body = {"max_tokens": most, "temperature": temperature, **({"stop": stops} if stops else {}), **sampled}
        if isinstance(context, JsonChatStr):
            return {"messages": json.loads(context.prompt), **body}
        if self.settings.chat:
            return {"messages": [{"role": "user", "content": context}], **body}
        return {"prompt": self._prompt_of(context, most), **body}

    def _prompt_of(self, context: str, most: int) -> Prompt:
        if self.tokenizer is None:
            return context
        room = self.max_length - most
        if room <= 0:
            raise SmaugError(
                f"max_gen_toks {most} leaves no room in a context of {self.max_length}",
                fix="set engine_args.max_length to the server's context, or lower max_gen_toks",
            )
        return self.tok_encode(context)[-room:] or [self.prefix_token_id]

    def continue_prompts(
        self, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling], known: Collection[int]
    ) -> Iterator[Sequence[tuple[int, Generation]]]:
        """Continue prompts of tokens by plain completions."""

        async def ask(client: ModelClient, index: int) -> Generation:
            body = sampling_keys(samplings[index])
            body["max_tokens"] = min(body["max_tokens"], self.max_length - len(prompts[index]))
            return await client.complete([*map(int, prompts[index])], body)

        for index, found in self._answers(ask, [index for index in range(len(prompts)) if index not in known]):
            yield [(index, found)]

    # Requests

    def _by_key(self, job: ScoringJob, ask: Any, title: str, disable_tqdm: bool) -> list[Any]:
        """Answer a job whose requests are told apart by their keys: equal ones are asked once."""
        owners: dict[str, list[int]] = {}
        for number, key in enumerate(job.keys):
            owners.setdefault(key, []).append(number)

        def chunks(found: Mapping[int, Any]) -> Iterator[dict[int, Any]]:
            left = [key for key, these in owners.items() if these[0] not in found]
            if left and job.kind == "loglikelihood":
                self._check_echo()
            for key, answer in self._answers(ask, left):
                yield dict.fromkeys(owners[key], answer)

        return self._answer(job, chunks, title, disable_tqdm)[0]

    def _answers(self, ask: Any, keys: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        return answers(self._connect, ask, keys, self.settings.concurrency)

    def _connect(self) -> ModelClient:
        return ModelClient(self._endpoint, self._budget, log.warning, self.settings.extra_body)

    def _needed_tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise SmaugError(
                "this task needs the served model's tokenizer", fix="set engine_args.tokenizer to its folder or Hub id"
            )
        return self.tokenizer


def _shifted(context: str, continuation: str) -> tuple[str, str]:
    """A pair with the context's trailing spaces before its continuation, as lm-eval encodes it."""
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation


def _total(tokens: Sequence[Echoed]) -> tuple[float, bool]:
    return sum(token.log_prob or 0.0 for token in tokens), all(token.greedy for token in tokens)


def _stops(until: Any) -> list[str]:
    found = [until] if isinstance(until, str) else list(until or ())
    return [stop for stop in dict.fromkeys(found) if stop]
