"""The counts by which the engines are held against what is possible."""

from __future__ import annotations

import numpy as np
from transformers import LlamaConfig

from benchmarks.cache_blocks import BlockCache, least, ours
from benchmarks.matmul_peak import peak_flops, useful_flops
from benchmarks.tiny_models import tiny_model
from smaug_eval.engines.trie import Text, shared_lengths, unique_tokens


def text(*ids: int, scored: int = 1) -> Text:
    return Text(np.array(ids, np.int32), scored)


def test_useful_operations_worked_out_by_hand() -> None:
    """By token 80 in a layer, of which 16 are for keys and values; 20 in the head; 8 for each key seen."""
    config = LlamaConfig(hidden_size=2, intermediate_size=4, num_hidden_layers=2, num_attention_heads=1, vocab_size=5)
    two_tokens = 2 * (80 + 16) + (80 - 16 + 20) + 8 * ((1 + 2) + 2)
    assert useful_flops(config, [text(1, 2, 3)]) == two_tokens == 316
    assert useful_flops(config, [text(1, 2, 3), text(1, 2, 4)]) == two_tokens  # asked at the same place
    one_more = (80 + 16) + (80 - 16 + 20) + 8 * (3 + 3)
    assert useful_flops(config, [text(1, 2, 3), text(1, 2, 4), text(1, 2, 4, 4)]) == two_tokens + one_more
    other_place = (80 - 16 + 20) + 8 * 1  # the second token of the second text is asked for, too
    assert useful_flops(config, [text(1, 2, 3), text(1, 2, 4, scored=2)]) == two_tokens + other_place


def test_the_peak_is_a_rate() -> None:
    assert 1e5 < peak_flops(tiny_model("llama"), "cpu") < 1e15


def test_blocks_are_cached_whole_and_a_prompt_never() -> None:
    cache = BlockCache(4)
    assert [cache.read(range(size)) for size in (8, 8, 9, 11, 3)] == [0, 4, 8, 8, 0]
    assert cache.computed == 8 + 4 + 1 + 3 + 3


def test_what_blocks_leave_worked_out_by_hand() -> None:
    """Two answers of three tokens behind six: with blocks of 4 two of the six are computed for each."""
    texts = [text(*range(10, 16), 1, 2, 3, scored=3), text(*range(10, 16), 4, 5, 6, scored=3)]
    assert unique_tokens(texts, shared_lengths(texts)) == 10
    assert least(texts, 1) == ours(texts, 1) == 10
    assert least(texts, 4) == 8 + 4  # two prompts of 8 tokens, of which the first 4 are shared
    assert ours(texts, 4) == 6 + 4 + 4  # and the context by itself, for both first tokens
    short = [text(*range(10, 16), 1), text(*range(10, 16), 4)]
    assert (least(short, 4), ours(short, 4)) == (6, 6)  # one prompt for both
