"""Read several texts side by side, and then token by token, with one cache.

A token adds to the cache in place, where transformers' own copies all keys and values each time. What all texts begin
with is read once.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from smaug_eval.prefix.lengths import named_lengths
from smaug_eval.prefix.probe import ANSWER_ERRORS, probe_texts, tolerance_of

ROOM = 64
"""Tokens for which a layer of the cache makes room each time that it has none left."""
LEAST_SAVED = 256
"""Tokens that a shared beginning must save: reading it takes a pass of its own."""


class RoomyLayer(DynamicLayer):
    """Keep keys and values in tensors with room for more tokens; the inherited ones show the part that is filled."""

    keys: Any
    values: Any
    _keys: Tensor
    _values: Tensor
    _shown: Tensor | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add keys and values of more tokens, shape ``(rows, heads, tokens, size)``, and return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        had = self.get_seq_length()
        has = had + key_states.shape[-2]
        # Whatever else changes a layer, as leaving rows out does, puts new tensors into it.
        if self.keys is not self._shown or has > self._keys.shape[-2]:
            self._keys, self._values = (
                _with_room(self.keys, had, key_states),
                _with_room(self.values, had, value_states),
            )
        self._keys[..., had:has, :], self._values[..., had:has, :] = key_states, value_states
        self.keys, self.values = self._keys[..., :has, :], self._values[..., :has, :]
        self._shown = self.keys
        return self.keys, self.values

    def spread(self, places: Tensor) -> None:
        """Make rows of the only one: ``places``, of shape ``(rows, tokens)``, says which token stands where in each."""
        places = places.to(self.keys.device)
        self.keys, self.values = (each[0][:, places].transpose(0, 1) for each in (self.keys, self.values))


def _with_room(old: Tensor, length: int, new: Tensor) -> Tensor:
    found = new.new_empty((*new.shape[:-2], length + new.shape[-2] + ROOM, new.shape[-1]))
    if length:
        found[..., :length, :] = old
    return found


class Decoder:
    """Hold a model, what it has read, in its cache or as token ids, and which of these are padding.

    Attributes:
        computed: Tokens computed, padding included.
    """

    def __init__(self, model: Any, *, cached: bool = True) -> None:
        """Begin with nothing read.

        Args:
            model: A causal language model of transformers.
            cached: Whether its cache can be used (:func:`can_cache`); otherwise every step reads the whole texts.
        """
        self._model = model
        self._device = next(model.parameters()).device
        arguments = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in arguments
        self._takes_last = "logits_to_keep" in arguments
        self._cache_argument = _cache_argument(model)
        self._cache = _cache_of(model) if cached else None
        self._ids = torch.zeros((0, 0), dtype=torch.long)
        self._mask = torch.ones((0, 0), dtype=torch.long)
        self.computed = 0

    def start(self, prompts: Sequence[Sequence[int]], shared: int = 0) -> Tensor:
        """Read the prompts, padded on the left.

        Args:
            prompts: Token ids.
            shared: Tokens with which all of them begin and that are read once (:func:`shared_beginning`).

        Returns:
            Logits behind each, shape ``(rows, vocabulary)``, float32.
        """
        width = max(map(len, prompts))
        padding = torch.tensor([width - len(prompt) for prompt in prompts])[:, None]
        ids = torch.zeros((len(prompts), width), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
        if shared and self._cache is not None:
            # What a row has less padding than the longest is filled with the end of the beginning, read once more.
            self._mask = torch.ones((1, shared), dtype=torch.long, device=self._device)
            self._forward(torch.tensor([prompts[0][:shared]], device=self._device))
            places = (torch.arange(shared) - padding).clamp(min=0)
            for layer in self._cache.layers:
                layer.spread(places)
        self._mask = (torch.arange(width) >= padding).long().to(self._device)
        self._ids = ids.to(self._device)
        return self._forward(self._ids[:, shared:] if self._cache is not None else self._ids)

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


def can_lose_rows(model: Any) -> bool:
    """Check whether rows can be taken out of each layer of a model's cache; convolutions keep a state without that.

    Nor can they where transformers has no such cache for the model.
    """
    try:
        layers = _cache_of(model).layers
    except AttributeError:  # the configuration does not say how many layers there are
        return False
    named = _cache_argument(model) in inspect.signature(model.forward).parameters
    return named and all(hasattr(layer, "batch_select_indices") for layer in layers)


def can_cache(model: Any) -> bool:
    """Check whether a model's cache holds every token once.

    It holds them several times, and the model reads them so, where layers share one attention module: each run of it
    adds its keys to the same layer of the cache.
    """
    cache = _cache_of(model)
    ids = torch.zeros((1, 2), dtype=torch.long, device=next(model.parameters()).device)
    with torch.inference_mode():
        model(input_ids=ids, use_cache=True, **{_cache_argument(model): cache})
    keys = (getattr(layer, "keys", None) for layer in cache.layers)
    return all(each.shape[-2] <= ids.shape[1] for each in keys if isinstance(each, Tensor) and each.ndim == 4)


def sharing_limit(model: Any) -> int:
    """Return the tokens of the longest prompts whose common beginning may be read once; 0 for none.

    Reading texts in two parts must say what reading them at once does: this is tried. It is not done where a layer of
    the cache forgets tokens, nor beyond a length at which the model's configuration says that something changes.
    """
    limit = min((length.tokens for length in named_lengths(model.config)), default=sys.maxsize)
    group = probe_texts(model)[0]
    texts = [[*group.prefix.tolist(), *tail.tolist()] for tail in group.tails]
    prompts = [texts[0], texts[1][:-2]]
    if limit < len(texts[0]) or not all(isinstance(layer, RoomyLayer) for layer in _cache_of(model).layers):
        return 0
    try:
        parts, whole = (Decoder(model).start(prompts, shared).log_softmax(-1) for shared in (len(group.prefix), 0))
    except ANSWER_ERRORS:
        return 0
    return limit if float((parts - whole).abs().max()) <= tolerance_of(model) else 0


def shared_beginning(prompts: Sequence[Sequence[int]], limit: int) -> int:
    """Count the tokens that prompts begin with alike, without the last of any; 0 where reading them once saves little.

    Args:
        prompts: Token ids.
        limit: Tokens of the longest prompts that may share, from :func:`sharing_limit`.
    """
    if max(map(len, prompts)) > limit:
        return 0
    shortest = min(map(len, prompts)) - 1
    first, last = min(prompts, key=list), max(prompts, key=list)  # what these share, all between them do
    shared = next((place for place in range(shortest) if first[place] != last[place]), shortest)
    return shared if shared * (len(prompts) - 1) >= LEAST_SAVED else 0


def _cache_of(model: Any) -> DynamicCache:
    cache = DynamicCache(config=model.config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _cache_argument(model: Any) -> str:
    """The name that a model's ``forward`` has for its cache; ``past_key_values`` ends with transformers 5.40."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
