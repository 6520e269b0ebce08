"""Continue several prompts together with one cache; a row leaves as soon as its text is complete."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig

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
    return not getattr(model, "_is_stateful", False) and not changed


def can_cache(model: Any) -> bool:
    """Check whether a model's cache holds every token once.

    It holds them several times, and the model reads them so, where layers share one attention module: each run of it
    adds its keys to the same layer of the cache.
    """
    cache = DynamicCache(config=model.config)
    ids = torch.zeros((1, 2), dtype=torch.long, device=next(model.parameters()).device)
    with torch.inference_mode():
        model(input_ids=ids, use_cache=True, **{_cache_argument(model): cache})
    keys = (getattr(layer, "keys", None) for layer in cache.layers)
    return all(each.shape[-2] <= ids.shape[1] for each in keys if isinstance(each, Tensor) and each.ndim == 4)


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
) -> tuple[list[Generation], int]:
    """Continue prompts together.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.
        prompts: Token ids, each of at least one and fewer than ``max_length`` tokens.
        samplings: How to continue each.
        max_length: Tokens that the model's context holds.
        cached: Whether the model's cache can be used (:func:`can_cache`); otherwise every step reads the whole texts.

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
    decoder = _Decoder(model, cached=cached)
    logits = decoder.start(prompts)
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


class _Decoder:
    """A model, what it has read, in its cache or as token ids, and which of these are padding."""

    def __init__(self, model: Any, *, cached: bool) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        arguments = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in arguments
        self._takes_last = "logits_to_keep" in arguments
        self._cache_argument = _cache_argument(model)
        self._cache = DynamicCache(config=model.config) if cached else None
        self._ids = torch.zeros((0, 0), dtype=torch.long)
        self._mask = torch.ones((0, 0), dtype=torch.long)
        self.computed = 0

    def start(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the prompts, padded on the left; logits behind each, shape ``(rows, vocabulary)``, float32."""
        width = max(map(len, prompts))
        ids = torch.zeros((len(prompts), width), dtype=torch.long)
        self._mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            self._mask[row, width - len(prompt) :] = 1
        self._mask, self._ids = self._mask.to(self._device), ids.to(self._device)
        return self._forward(self._ids)

    def step(self, ids: Sequence[int]) -> Tensor:
        """Read one more token of each row; logits behind it."""
        self._mask = torch.cat([self._mask, self._mask.new_ones((len(ids), 1))], dim=1)
        new = torch.tensor(ids, device=self._device)[:, None]
        if self._cache is not None:
            return self._forward(new)
        self._ids = torch.cat([self._ids, new], dim=1)
        return self._forward(self._ids)

    def keep(self, places: Sequence[int]) -> None:
        """Continue with these rows only."""
        indices = torch.tensor(places, device=self._device)
        if self._cache is None:
            self._ids = self._ids[indices]
        else:
            self._cache.batch_select_indices(indices)
        self._mask = self._mask[indices]

    def _forward(self, ids: Tensor) -> Tensor:
        self.computed += ids.numel()
        options: dict[str, Any] = {"use_cache": self._cache is not None}
        if self._cache is not None:
            options[self._cache_argument] = self._cache
        if self._takes_positions:
            options["position_ids"] = (self._mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if self._takes_last:
            options["logits_to_keep"] = 1
        with torch.inference_mode():
            output = self._model(input_ids=ids, attention_mask=self._mask, **options)
        logits: Tensor = output.logits[:, -1].float()
        return logits


def _cache_argument(model: Any) -> str:
    """The name that a model's ``forward`` has for its cache; ``past_key_values`` ends with transformers 5.40."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


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
