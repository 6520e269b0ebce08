"""Measure everything before the forward pass: building, tokenising and laying out the leaderboard's requests.

    python -m benchmarks.request_building --data-root MIRROR --tokenizer FOLDER

Seconds for each column: read its rows, build its documents and requests, and prepare them as ``smaug-torch`` does
(tokens, distinct texts, prefix trees, rows of a forward pass), with a model that answers at once.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from smaug_eval.engines.shared import ScoredText
from smaug_eval.engines.torch_engine import TorchEngine
from smaug_eval.engines.trie import Text, grow
from smaug_eval.leaderboard.protocol import build_documents, requests
from smaug_eval.leaderboard.v1 import SUITE
from smaug_eval.prefix.scorer import Scorer


class Preparing(TorchEngine):
    """Lay out every row and answer without a forward pass."""

    def _score_row(self, scorer: Scorer, texts: Sequence[Text], row: Sequence[int]) -> list[ScoredText]:
        layout = scorer.tree_layout(grow([texts[index] for index in row]).trees)
        self.count_computed(layout.computed)
        sizes = [(index, texts[index].scored) for index in row]
        return [(index, np.zeros(size, np.float32), np.zeros(size, np.bool_)) for index, size in sizes]


def preparing(tokenizer: str) -> Preparing:
    """Return an engine around the smallest of models."""
    found = AutoTokenizer.from_pretrained(tokenizer)
    size: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = LlamaConfig(vocab_size=len(found), max_position_embeddings=2048, **size)
    return Preparing(pretrained=LlamaForCausalLM(config).eval(), tokenizer=found, device="cpu")


def measure(data_root: Path | None, engine: Preparing | None) -> dict[str, dict[str, float]]:
    """Return the seconds of each step for each column, with the number of requests."""
    found = {}
    for column in SUITE.columns:
        read = build = 0.0
        pairs: list[Any] = []
        for spec in column.leaves:
            start = time.perf_counter()
            rows = SUITE.rows(spec, data_root)
            middle = time.perf_counter()
            pairs += [pair for document in build_documents(spec, *rows) for pair in requests(spec, document)]
            read, build = read + middle - start, build + time.perf_counter() - middle
        found[column.title] = {"requests": len(pairs), "read_seconds": round(read, 3), "build_seconds": round(build, 3)}
        start = time.perf_counter()
        if engine is not None:
            prepare(engine, pairs, generates=column.leaves[0].generation is not None)
            found[column.title]["prepare_seconds"] = round(time.perf_counter() - start, 3)
    return found


def prepare(engine: Preparing, pairs: Sequence[tuple[str, str]], *, generates: bool) -> None:
    """Run all that the engine does before the first forward pass; of generations only the tokens."""
    if generates:
        for context, _ in pairs:
            engine.tok_encode(context)
    else:
        asked = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]
        engine.loglikelihood(asked, disable_tqdm=True)


def main() -> None:
    """Print the measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="offline mirror; the Hub if left out")
    parser.add_argument("--tokenizer", help="folder or name of the tokenizer; nothing is prepared if left out")
    arguments = parser.parse_args()
    engine = preparing(arguments.tokenizer) if arguments.tokenizer else None
    columns = measure(arguments.data_root, engine)
    total = {key: round(sum(column[key] for column in columns.values()), 3) for key in next(iter(columns.values()))}
    print(json.dumps({"columns": columns, "total": total, "threads": torch.get_num_threads()}, indent=2))


if __name__ == "__main__":
    main()
