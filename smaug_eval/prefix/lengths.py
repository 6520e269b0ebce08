"""Find the lengths that a model's configuration names: windows, chunks, top-k of tokens, the context before long RoPE.

Beyond such a length a model's layers compute something else than before it. A trial on short texts says nothing about
that, so a trial either uses longer texts, or makes the length shorter for as long as it lasts: :func:`shortened`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

# Names of settings that count tokens, as configurations of transformers and of models with code of their own have them.
_NAMED = re.compile(
    r"window|chunk|top_?k|block_?(size|len)|budget|compress|local_(att|size|len|context|block)|kernel|conv|stride|extent"
    r"|floor|span|look_?back|mem_len|segment_(size|len)|max_distance|original_max_position|^seq_length$"
)
# Settings whose names say the same of something else: experts, layers, sizes.
_OTHER = re.compile(
    r"expert|moe|router|group|centroid|layer|head|feed_forward|dim|rank|theta|multiple|pattern|vocab|norm|^top_k$|^topk$"
)
# The model chooses so many tokens by a score. Equal scores are ordered by where they stand in the row, so that rows
# of several texts may choose others: too rarely for a trial to show it.
_CHOOSES = re.compile(r"top_?k|budget|keep_window")

_OTHER_PART = re.compile(r"vision|image|video|audio|depth_decoder")
# Of a RoPE with other frequencies for long texts: the longest text of a row decides for all of them. The difference may
# be too small for a trial in half precision. Qwen's first models call it seq_length.
_ROPE_LENGTH = "original_max_position_embeddings"
_FIXED_ROPE = ("default", "linear", "llama3", "yarn", "proportional", "mrope")  # frequencies do not change with length
_CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_target_positions")


@dataclass(frozen=True)
class Length:
    """Describe a number of tokens beyond which a model computes differently.

    Attributes:
        name: Its name in the configuration.
        tokens: The number.
        can_be_tried: Whether a trial with a shorter one shows how the real one is handled.
    """

    name: str
    tokens: int
    can_be_tried: bool = True


def named_lengths(config: PreTrainedConfig) -> tuple[Length, ...]:
    """Return the lengths that a configuration names, of at least 2 tokens.

    Args:
        config: Of a model; of one with several parts, that of the language model in it is read.
    """
    config = config.get_text_config()
    found: dict[str, Length] = {}
    for holder in _inside([config], only_text=True):
        for name, value in _items(holder):
            if not _names_length(name) or (name == _ROPE_LENGTH and _has_fixed_rope(config)):
                continue
            blocks = _block_size(holder) if name.endswith("blocks") else 1
            for tokens in _numbers(value):
                can_be_tried = name not in (_ROPE_LENGTH, "seq_length") and not _CHOOSES.search(name)
                found[f"{name} {tokens}"] = Length(name, tokens * blocks, can_be_tried)
    longest = context_length(config)
    if longest is not None and "dynamic" in _rope_types(config):
        # Its frequencies depend on the longest text so far, not on the one that is read.
        found["context"] = Length("max_position_embeddings", longest, can_be_tried=False)
    return tuple(sorted(found.values(), key=lambda length: (length.tokens, length.name)))


def context_length(config: PreTrainedConfig) -> int | None:
    """Return the tokens of the longest text that a model takes; None where its configuration names none."""
    text = config.get_text_config()
    values = (getattr(text, name, None) for name in _CONTEXT)
    return next((value for value in values if isinstance(value, int) and value > 1), None)


def configurations(model: nn.Module) -> list[PreTrainedConfig]:
    """Return the configurations that a model and its parts hold."""
    held = [
        config for module in model.modules() if isinstance(config := getattr(module, "config", None), PreTrainedConfig)
    ]
    return [config for config in _inside(held) if isinstance(config, PreTrainedConfig)]


@contextmanager
def shortened(model: nn.Module, lengths: Iterable[Length], tokens: int) -> Iterator[None]:
    """Shorten lengths to ``tokens`` in a model's configuration and its layers, while the context lasts.

    A model that has worked the length into a buffer continues with the real one. Buffers that layers without weights
    compute while the context lasts, as the frequencies of a RoPE, are put back with the lengths.
    """
    wanted = {(length.name, length.tokens) for length in lengths}
    if not wanted:
        yield
        return
    values = {number for _, number in wanted}
    saved: list[tuple[Any, Any, Any]] = []
    # transformers registers such a buffer anew before 5.23, and writes into it from then on.
    buffers = [
        (module, {name: (buffer, buffer.clone()) for name, buffer in module._buffers.items() if buffer is not None})
        for module in model.modules()
        if not module._parameters and not module._modules and module._buffers
    ]
    try:
        for holder, is_config in _model_holders(model):
            for name, value in _items(holder):
                hit = (lambda number, name=name: (name, number) in wanted) if is_config else values.__contains__
                if _names_length(name) and any(hit(number) for number in _numbers(value)):
                    saved.append((holder, name, value))
                    _put(holder, name, _shorter(value, hit, tokens))
        yield
    finally:
        for holder, name, value in reversed(saved):
            _put(holder, name, value)
        for module, before in buffers:
            for name, (buffer, numbers) in before.items():
                module._buffers[name] = buffer.copy_(numbers)


def _block_size(holder: Any) -> int:
    """Tokens of a block, of which a setting beside this one counts how many."""
    sizes = [value for name, value in _items(holder) if "block_size" in name and isinstance(value, int)]
    return max([1, *sizes])


def _names_length(name: str) -> bool:
    return _NAMED.search(name) is not None and _OTHER.search(name) is None


def _has_fixed_rope(config: PreTrainedConfig) -> bool:
    return all(kind in _FIXED_ROPE for kind in _rope_types(config))


def _rope_types(config: PreTrainedConfig) -> set[str]:
    kinds = set()
    for holder in _inside([config], only_text=True):
        if isinstance(holder, dict):
            kinds |= {str(holder[key]) for key in ("rope_type", "type") if isinstance(holder.get(key), str)}
    return kinds


def _inside(configs: Iterable[PreTrainedConfig], *, only_text: bool = False) -> list[Any]:
    """Configurations, and the dictionaries and configurations in them; ``only_text`` leaves out what is of images."""
    waiting: list[Any] = list(configs)
    found: dict[int, Any] = {}
    while waiting:
        holder = waiting.pop()
        if id(holder) not in found:
            found[id(holder)] = holder
            waiting += [
                value
                for name, value in _items(holder)
                if isinstance(value, dict | PreTrainedConfig) and not (only_text and _OTHER_PART.search(name))
            ]
    return list(found.values())


def _model_holders(model: nn.Module) -> Iterator[tuple[Any, bool]]:
    """Everything that may hold a length, and whether it is of a configuration; the rest are layers."""
    for holder in _inside(configurations(model)):
        yield holder, True
    for module in model.modules():
        yield module, False


def _items(holder: Any) -> list[tuple[str, Any]]:
    values: Mapping[Any, Any] = holder if isinstance(holder, dict) else vars(holder)
    return [(str(name), value) for name, value in values.items()]


def _put(holder: Any, name: str, value: Any) -> None:
    # Past the checks of a configuration, which know no length as short as a trial's.
    (holder if isinstance(holder, dict) else vars(holder))[name] = value


def _numbers(value: Any) -> list[int]:
    values: Sequence[Any] = value if isinstance(value, list | tuple) else (value,)
    return [number for number in values if isinstance(number, int) and not isinstance(number, bool) and number > 1]


def _shorter(value: Any, hit: Any, tokens: int) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_shorter(each, hit, tokens) for each in value)
    return min(value, tokens) if isinstance(value, int) and not isinstance(value, bool) and hit(value) else value
