"""Continue several prompts together with one cache; a row leaves as soon as its text is complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from smaug_eval.engines.decoder import Decoder, can_lose_rows, shared_beginning
from smaug_eval.engines.generation import Generation, Sampling

TAIL_TOKENS = 8  # tokens, besides one for each character of a stop text, that are read again to find it

_HARMLESS = {
    # What a generation configuration may say without changing the likeliest token.
    *("bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "temperature", "top_k", "top_p", "min_p"),
    *("typical_p", "max_length", "max_new_tokens", "transformers_version", "use_cache", "cache_implementation"),
    *("_from_model_config", "output_attentions", "output_hidden_states", "return_dict_in_generate"),
}


def can_continue(model: Any) -> bool:
    """Check whether :func:`continue_batch` writes what ``model.generate`` would with greedy decoding.

    Not with a recurrent state, which cannot lose rows, nor with settings of the model's own that change the scores.
    """
    changed = set(model.generation_config.to_diff_dict()) - _HARMLESS
    return not getattr(model, "_is_stateful", False) and not changed and can_lose_rows(model)


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
        _DecodedRow(
            index,
            len(prompt),
            sampling,
            frozenset(stop_ids | set(sampling.stop_token_ids)),
            min(sampling.max_new_tokens, max_length - len(prompt)),
            torch.Generator().manual_seed(sampling.seed),
        )
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
