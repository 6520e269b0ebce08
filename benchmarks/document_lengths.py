"""Measure the documents of a suite in tokens: what `smaug-eval plan` counts the work of a column by.

    python -m benchmarks.document_lengths --suite open_llm_v2 --data-root MIRROR --tokenizer FOLDER

For each column: its documents (the official number where there is one), and the mean tokens of a document over the
first documents of each task, once with each request as a text of its own (``whole``), once with what the requests of a
document have in common at their beginning counted once (``shared``). Tasks are weighted by their documents.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from smaug_eval.leaderboard.protocol import build_documents, requests
from smaug_eval.leaderboard.registry import find_suite


def document_tokens(tokenizer: Any, pairs: list[tuple[str, Any]]) -> tuple[int, int]:
    """Return the tokens of a document's requests: with their common beginning counted once, and all of them.

    Args:
        tokenizer: A transformers tokenizer.
        pairs: Context and continuation of each request; of a generation the context alone counts.
    """
    texts = [context + (each if isinstance(each, str) else "") for context, each in pairs]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    common = 0
    for tokens in zip(*ids, strict=False):
        if len(set(tokens)) > 1:
            break
        common += 1
    whole = sum(map(len, ids))
    return whole - common * (len(ids) - 1), whole


def measure(name: str, data_root: Path | None, tokenizer: Any, limit: int) -> dict[str, dict[str, int]]:
    """Return documents, ``shared`` and ``whole`` of each column of a suite."""
    suite = find_suite(name)
    found = {}
    for column in suite.columns:
        totals, documents = [0.0, 0.0], 0
        for spec in column.leaves:
            rows = suite.rows(spec, data_root)
            built = build_documents(spec, *rows)
            number = spec.official_rows or len(built)
            sizes = [document_tokens(tokenizer, list(requests(spec, each))) for each in built[:limit]]
            documents += number
            for index in (0, 1):
                totals[index] += number * sum(size[index] for size in sizes) / len(sizes)
        shared, whole = (round(total / documents) for total in totals)
        found[column.title] = {"documents": documents, "shared": shared, "whole": whole}
    return found


def main() -> None:
    """Print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="open_llm_v2")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--limit", type=int, default=12)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    print(json.dumps(measure(options.suite, options.data_root, tokenizer, options.limit), indent=2))


if __name__ == "__main__":
    main()
