"""Compute what a cache of whole blocks of tokens, as vLLM's, leaves to be computed of a leaderboard's requests.

    python -m benchmarks.cache_blocks --data-root MIRROR --tokenizer FOLDER [--tasks truthfulqa] [--docs 16]

No model runs. Of each column and block size, tokens computed / tokens of the requests' prefix trie:

ours: by the prompts that smaug-vllm plans, against a cache that forgets nothing. least: whatever the order and the
prompts. A text takes a prompt up to its last but one token, unless a longer prompt begins with it; of these prompts
together each distinct full block is computed once, and what is behind a prompt's last full block each time, as is the
last block of a prompt that is all full blocks and all in the cache. shuffled: ours with the texts in random order: what
sorting gains. lm-eval: every request whole, as vLLM reads no cache for its log-probabilities. tokens: texts, their mean
tokens, and those of the trie by the texts.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from benchmarks.scoring import TASKS, instances
from smaug_eval.engines.shared import Request
from smaug_eval.engines.torch_engine import TorchEngine
from smaug_eval.engines.trie import Text, shared_lengths, sort_key, unique_tokens
from smaug_eval.engines.vllm_plan import Prompt, Told, plan, score

SIZES = (1, 16, 32, 128)
"""Tokens of a block: of no real cache, of vLLM's on a GPU, of ours on a CPU, and vLLM's own choice there."""


class BlockCache:
    """Answer prompts with zeros, and count the tokens that vLLM would compute for them.

    Attributes:
        computed: The tokens.
    """

    def __init__(self, size: int) -> None:
        """Begin with an empty cache of blocks of ``size`` tokens, which forgets nothing."""
        self.computed = 0
        self._size = size
        self._blocks: set[bytes] = set()
        self._queue: list[tuple[Prompt, list[int]]] = []

    @property
    def waiting(self) -> int:
        """Return the prompts without an answer."""
        return len(self._queue)

    def ask(self, prompt: Prompt, ids: list[int]) -> None:
        """Submit a prompt and its tokens."""
        self._queue.append((prompt, ids))

    def answers(self) -> Sequence[tuple[Prompt, Sequence[Told]]]:
        """Answer all prompts in order; nothing is told of cached tokens."""
        queue, self._queue = self._queue, []
        return [(prompt, self._answer(prompt, ids)) for prompt, ids in queue]

    def _answer(self, prompt: Prompt, ids: list[int]) -> list[Told]:
        cached = self.read(ids, prompt.cached)
        told = [(len(ids), token, 0.0, False) for token in prompt.chosen]
        return told + [(place, ids[place], 0.0, False) for place in range(max(prompt.first, cached + 1), len(ids))]

    def read(self, ids: Sequence[int], from_cache: bool = True) -> int:
        """Compute a prompt; how many of its tokens come from the cache, of which the last token never does."""
        whole = np.asarray(ids, np.int32)
        blocks = [whole[:end].tobytes() for end in range(self._size, len(ids) + 1, self._size)]
        cached = 0
        while from_cache and cached + self._size < len(ids) and blocks[cached // self._size] in self._blocks:
            cached += self._size
        self._blocks.update(blocks)
        self.computed += len(ids) - cached
        return cached


def ours(texts: Sequence[Text], size: int) -> int:
    """Count the tokens computed for the prompts of smaug-vllm."""
    cache = BlockCache(size)
    for _ in score(cache, texts):
        pass
    return cache.computed


def shuffled(texts: Sequence[Text], size: int) -> int:
    """Count the tokens computed for the same prompts, text by text in random order."""
    cache = BlockCache(size)
    plans = list(enumerate(plan(texts, shared_lengths(texts))))
    random.Random(0).shuffle(plans)
    for index, prompts in plans:
        for prompt in prompts:
            cache.read(texts[index].ids[: prompt.fed].tolist())
    return cache.computed


def least(texts: Sequence[Text], size: int) -> int:
    """Count the tokens that any prompts in any order compute at least."""
    fed = sorted((text.ids[:-1] for text in texts), key=sort_key)
    following = [*fed[1:], np.zeros(0, np.int32)]
    ends = [one for one, other in zip(fed, following, strict=True) if not np.array_equal(one, other[: len(one)])]
    cache = BlockCache(size)
    for ids in ends:
        cache.read(ids.tolist())
    return cache.computed


def requests_of(task: str, tokenizer: PreTrainedTokenizerBase, arguments: argparse.Namespace) -> tuple[list[Text], int]:
    """Return a column's distinct texts, sorted, and the tokens of all its requests."""
    engine = _encoder(tokenizer)
    asked = instances(task, arguments.docs, arguments.data_root, arguments.subjects)
    encoded: list[Request] = engine.encode_pairs([request.args for request in asked])
    whole = [np.concatenate([before, after]).astype(np.int32) for _, before, after in encoded]
    scored: dict[bytes, Text] = {}
    for ids, (_, _, after) in zip(whole, encoded, strict=True):
        scored[sort_key(ids)] = Text(ids, len(after))
    return [scored[key] for key in sorted(scored)], sum(map(len, whole))


def _encoder(tokenizer: PreTrainedTokenizerBase) -> TorchEngine:
    """An engine that encodes requests, around the smallest model."""
    sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=2048, **sizes))
    return TorchEngine(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=1)


def main() -> None:
    """Print the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="offline mirror; the Hub if left out")
    parser.add_argument("--tokenizer", required=True, help="folder or name of the tokenizer")
    parser.add_argument("--tasks", nargs="+", choices=TASKS["v1"], default=list(TASKS["v1"]))
    parser.add_argument("--docs", type=int, default=16, help="documents of each task")
    parser.add_argument("--subjects", type=int, default=1, help="MMLU's subjects")
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    found = {}
    for task in arguments.tasks:
        texts, requested = requests_of(task, tokenizer, arguments)
        unique = unique_tokens(texts, shared_lengths(texts))
        ways = {"ours": ours, "least": least, "shuffled": shuffled}
        found[task] = {
            "tokens": {
                "texts": len(texts),
                "mean": round(requested / len(texts)),
                "unique": round(unique / len(texts)),
            },
            "lm-eval": round(requested / unique, 2),
            **{
                name: {str(size): round(count(texts, size) / unique, 2) for size in SIZES}
                for name, count in ways.items()
            },
        }
    settings = {"docs": arguments.docs, "subjects": arguments.subjects, "tokenizer": Path(arguments.tokenizer).name}
    print(json.dumps({"columns": found, "settings": settings}, indent=2))


if __name__ == "__main__":
    main()
