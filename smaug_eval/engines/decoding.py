"""Continue several prompts together with one cache; a row leaves as soon as its text is complete.

A model with a recurrent state continues its prompts one by one, with transformers' own ``generate``: padding would
become part of the state, and each such model has a cache of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor
from transformers import GenerationConfig

from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.decoder import Decoder, can_lose_rows, shared_beginning
from smaug_eval.engines.generation import Generation, Sampling
from smaug_eval.prefix.probe import ANSWER_ERRORS, probe_texts

TAIL_TOKENS = 8  # tokens, besides one for each character of a stop text, that are read again to find it

_HARMLESS = {
    # What a generation configuration may say without changing the likeliest token.
    *("bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "temperature", "top_k", "top_p", "min_p"),
    *("typical_p", "max_length", "max_new_tokens", "transformers_version", "use_cache", "cache_implementation"),
    *("_from_model_config", "output_attentions", "output_hidden_states", "return_dict_in_generate"),
}


def can_batch(model: Any) -> bool:
    """Check whether :func:`continue_batch` can read prompts of several lengths side by side.

    Not with a recurrent state: it takes in the padding, and cannot lose rows.
    """
    return not getattr(model, "_is_stateful", False) and can_lose_rows(model)


def can_continue(model: Any) -> bool:
    """Check whether :func:`continue_batch` writes what ``model.generate`` would with greedy decoding.

    Not where it cannot batch, nor with settings of the model's own that change the scores.
    """
    changed = set(model.generation_config.to_diff_dict()) - _HARMLESS
    return not changed and can_batch(model)


@dataclass
class _DecodedRow:
    index: int
    prompt: int  # tokens
    sampling: Sampling
    stop_ids: frozenset[int]
    most: int
    generator: torch.Generator
    ids: list[int] = field(default_factory=list)

    def draw(self, logits: Tensor) -> int:
        """The next token; ``logits`` has shape ``(vocabulary,)``."""
        if self.sampling.temperature <= 0:
            return int(logits.argmax())
        probabilities = _nucleus(torch.softmax(logits / self.sampling.temperature, dim=-1), self.sampling.top_p)
        return int(torch.multinomial(probabilities, 1, generator=self.generator))


def continue_batch(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    samplings: Sequence[Sampling],
    *,
    max_length: int,
    cached: bool = True,
    sharing_limit: int = 0,
) -> tuple[list[Generation], int]:
    """Continue prompts together.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.
        prompts: Token ids, each of at least one and fewer than ``max_length`` tokens.
        samplings: How to continue each.
        max_length: Tokens that the model's context holds.
        cached: Whether the model's cache can be used (:func:`~smaug_eval.engines.decoder.can_cache`); otherwise every
            step reads the whole texts.
        sharing_limit: Tokens of the longest prompts whose common beginning is read once
            (:func:`~smaug_eval.engines.decoder.sharing_limit`); nothing is shared without the cache.

    Returns:
        The continuations in order, and how many tokens were computed, padding included.
    """
    stop_ids = _end_ids(model.generation_config, tokenizer)
    rows = [
        _row(index, prompt, sampling, stop_ids, max_length)
        for index, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True))
    ]
    written: dict[int, Generation] = {}
    decoder = Decoder(model, cached=cached)
    logits = decoder.start(prompts, shared_beginning(prompts, sharing_limit) if cached else 0)
    while True:
        staying = []
        # Drawn on the CPU, where the same seed gives the same tokens on every device.
        scores = logits if all(row.sampling.temperature <= 0 for row in rows) else logits.cpu()
        likeliest = logits.argmax(dim=-1).tolist()
        for place, row in enumerate(rows):
            row.ids.append(likeliest[place] if row.sampling.temperature <= 0 else row.draw(scores[place]))
            done = _finished(row, tokenizer)
            if done is None:
                staying.append(place)
            else:
                written[row.index] = done
        if not staying:
            break
        if len(staying) < len(rows):
            rows = [rows[place] for place in staying]
            decoder.keep(staying)
        logits = decoder.step([row.ids[-1] for row in rows])
    return [written[index] for index in range(len(prompts))], decoder.computed


def continue_alone(
    model: Any, tokenizer: Any, prompt: Sequence[int], sampling: Sampling, *, max_length: int, cached: bool = True
) -> tuple[Generation, int]:
    """Continue one prompt, without padding, with ``model.generate``: for models that cannot batch (:func:`can_batch`).

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.
        prompt: Token ids, at least one and fewer than ``max_length``.
        sampling: How to continue it.
        max_length: Tokens that the model's context holds.
        cached: Whether transformers uses a cache (:func:`can_cache_alone`); otherwise every step reads the whole text.

    Returns:
        The continuation, and how many tokens were computed.
    """
    # RecurrentGemma keeps its state on its layers, and takes a single token for more of the text before.
    cached = cached and len(prompt) > 1
    row = _row(0, prompt, sampling, _end_ids(model.generation_config, tokenizer), max_length)
    written: list[Generation] = []

    def draw(_ids: Tensor, logits: Tensor) -> Tensor:
        if written:  # transformers may notice the end of a text one step late, as it does on MPS
            return logits
        token = row.draw(logits[0] if sampling.temperature <= 0 else logits[0].cpu())
        row.ids.append(token)
        return torch.full_like(logits, -torch.inf).index_fill(1, torch.tensor([token], device=logits.device), 0.0)

    def stop(ids: Tensor, _scores: Any, **_options: Any) -> Tensor:
        if not written and (done := _finished(row, tokenizer)) is not None:
            written.append(done)
        return torch.full((len(ids),), bool(written), device=ids.device)

    settings = GenerationConfig(max_new_tokens=row.most, use_cache=cached, pad_token_id=0)
    ids = torch.tensor([list(prompt)], device=next(model.parameters()).device)
    generate(model, ids, settings, logits_processor=[draw], stopping_criteria=[stop])
    steps, first = len(row.ids), len(prompt)
    return written[0], first + steps - 1 if cached else sum(range(first, first + steps))


def can_cache_alone(model: Any) -> bool:
    """Try whether transformers' ``generate`` continues a text with a cache, or only without.

    Raises:
        SmaugError: it does neither.
    """
    group = probe_texts(model)[0]
    ids = torch.tensor([group.prefix.tolist()], device=next(model.parameters()).device)
    for cached in (True, False):
        try:
            generate(model, ids, GenerationConfig(max_new_tokens=3, use_cache=cached, pad_token_id=0))
        except ANSWER_ERRORS as error:
            if isinstance(error, RuntimeError) and should_reduce_batch_size(error):  # out of memory says nothing of it
                raise
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        else:
            return cached
    raise SmaugError(
        f"transformers cannot continue a text with a {type(model).__name__} ({reason})",
        fix="leave out what has this model write texts, or install a version of transformers that can",
    )


def generate(model: Any, ids: Tensor, settings: GenerationConfig, **options: Any) -> Tensor:
    """Call ``model.generate`` with these settings and none of the model's own.

    Args:
        model: A causal language model of transformers.
        ids: Prompts of the same length, shape ``(rows, tokens)``.
        settings: All settings.
        **options: Of ``generate``.

    Returns:
        The whole texts, shape ``(rows, tokens)``.
    """
    with _only(model, settings), torch.inference_mode():
        written: Tensor = model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=settings, **options
        )
    return written


@contextlib.contextmanager
def _only(model: Any, settings: GenerationConfig) -> Iterator[None]:
    """Take away a model's own settings, from which transformers would fill in what the given ones leave open."""
    own = model.generation_config
    model.generation_config = settings
    try:
        yield
    finally:
        model.generation_config = own


def _row(index: int, prompt: Sequence[int], sampling: Sampling, stop_ids: set[int], max_length: int) -> _DecodedRow:
    return _DecodedRow(
        index,
        len(prompt),
        sampling,
        frozenset(stop_ids | set(sampling.stop_token_ids)),
        min(sampling.max_new_tokens, max_length - len(prompt)),
        torch.Generator().manual_seed(sampling.seed),
    )


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """The fewest likeliest tokens with at least a share ``top_p``, as weights; all of them for 1."""
    if top_p >= 1:
        return probabilities
    ordered, places = probabilities.sort(descending=True, stable=True)
    kept = ordered.cumsum(dim=-1) - ordered < top_p
    return torch.zeros_like(probabilities).scatter(-1, places, ordered * kept)


def _end_ids(config: GenerationConfig, tokenizer: Any) -> set[int]:
    ends = config.eos_token_id
    ids = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    return {int(token) for token in ids if token is not None}


def _finished(row: _DecodedRow, tokenizer: Any) -> Generation | None:
    """What a row has written, if that is all."""
    if row.ids[-1] in row.stop_ids:
        return Generation(_before_stops(_text(tokenizer, row.ids[:-1]), row.sampling.stop), len(row.ids), "stop")
    longest = max(map(len, row.sampling.stop), default=0)
    if longest and _stops(_text(tokenizer, row.ids[-longest - TAIL_TOKENS :]), row.sampling.stop):
        text = _text(tokenizer, row.ids)
        if _stops(text, row.sampling.stop):
            return Generation(_before_stops(text, row.sampling.stop), len(row.ids), "stop")
    if len(row.ids) >= row.most:
        return Generation(_text(tokenizer, row.ids), len(row.ids), "length")
    return None


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True)
    return text


def _stops(text: str, stops: Sequence[str]) -> bool:
    return any(stop in text for stop in stops)


def _before_stops(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.split(stop)[0]
    return text
