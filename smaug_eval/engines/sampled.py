"""Describe have a model think and sample: what its generations are asked with, and what of them is scored."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smaug_eval.common.files import canonical_json
from smaug_eval.common.thinking import Reasoned, without_reasoning
from smaug_eval.engines.decoding_rules import Decoding, SamplingRule, ThinkingRule

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


@dataclass
class ThoughtCounts:
    """Count generations by their reasoning.

    Attributes:
        answers: All of them.
        thought: Those with reasoning.
        never_ended: Those whose reasoning has no end; their answer is empty.
    """

    answers: int = 0
    thought: int = 0
    never_ended: int = 0

    def add(self, found: Reasoned) -> None:
        """Count one."""
        self.answers += 1
        self.thought += found.thought
        self.never_ended += not found.ended


@contextlib.contextmanager
def decoded(lm: Any, decoding: Decoding, repeat: int, counts: ThoughtCounts) -> Iterator[None]:
    """Return have an lm-eval model write as ``decoding`` says while the context lasts.

    Args:
        lm: The model.
        decoding: How.
        repeat: Number of the repeat, from 0; each has its own draws, and each document of it, too.
        counts: Receives how the reasoning went.
    """
    original = lm.generate_until

    def generate(requests: list[Instance], **options: Any) -> list[str]:
        asked = drawn_apart([_changed(request, decoding, repeat, lm) for request in requests])
        texts = original(asked, **options)
        if decoding.thinking is None:
            return list(texts)
        return [
            _answer(text, request, decoding.thinking, counts) for text, request in zip(texts, requests, strict=True)
        ]

    lm.generate_until = generate
    try:
        yield
    finally:
        lm.generate_until = original


def document_seed(sampling: SamplingRule, repeat: int, context: object) -> int:
    """Return the seed of one answer: another one for each repeat and document, the same for each model."""
    return _hashed(f"{sampling.seed}|{repeat}|{context}")


def is_sampled(settings: Mapping[str, Any]) -> bool:
    """Return whether settings of a generation say that it is drawn: ``do_sample``, or a temperature without it."""
    asked = settings.get("do_sample")
    return bool(asked) if asked is not None else float(settings.get("temperature") or 0) > 0


def drawn_apart(requests: list[Instance]) -> list[Instance]:
    """Return generations of which each sampled one has a seed of its own.

    lm-eval lists a request as often as its task's ``repeats`` say. The first of equal ones keeps the seed that it has,
    or gets one that depends on its prompt; each further one gets another, the same at every call.
    """
    seen: Counter[str] = Counter()
    found = []
    for request in requests:
        context, settings = request.args
        if not is_sampled(settings):
            found.append(request)
            continue
        same = canonical_json([request.task_name, request.doc_id, request.idx, str(context), dict(settings)])
        number = seen[same]
        seen[same] += 1
        seed = settings.get("seed")
        first = document_seed(SamplingRule(1.0), 0, context) if seed is None else int(seed)
        found.append(_asked(request, {**settings, "seed": _hashed(f"{first}|draw {number}") if number else first}))
    return found


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=4).digest(), "little") >> 1


def _asked(request: Instance, settings: Mapping[str, Any]) -> Instance:
    changed = copy.copy(request)
    changed.arguments = (request.args[0], dict(settings))
    return changed


def _changed(request: Instance, decoding: Decoding, repeat: int, lm: Any) -> Instance:
    context, given = request.args
    settings = dict(given)
    if decoding.thinking is not None:
        # A stop within the reasoning would end it: stops are looked for in the answer.
        named = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
        own = next((settings[name] for name in named if settings.get(name) is not None), lm.max_gen_toks)
        settings = {key: value for key, value in settings.items() if key not in named}
        settings |= {"until": [], "max_gen_toks": int(own) + decoding.thinking.max_tokens}
    if decoding.sampling is not None:
        settings |= {"do_sample": True, "temperature": decoding.sampling.temperature}
        if decoding.sampling.top_p < 1:
            settings["top_p"] = decoding.sampling.top_p
        settings["seed"] = document_seed(decoding.sampling, repeat, context)
    return _asked(request, settings)


def _answer(text: str, request: Instance, rule: ThinkingRule, counts: ThoughtCounts) -> str:
    context, given = request.args
    prompt = getattr(context, "prompt", context)
    found = without_reasoning(text, end=rule.end, start=rule.start, prompt=str(prompt))
    counts.add(found)
    until = given.get("until")
    stops = [until] if isinstance(until, str) else list(until or ())
    from lm_eval.models.utils import postprocess_generated_text

    return str(postprocess_generated_text(found.answer, [stop for stop in stops if stop], None))
