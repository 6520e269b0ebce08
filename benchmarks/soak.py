"""Measure memory, open files and the journal over a long run of scored requests.

    python -m benchmarks.soak --requests 200000 --out benchmarks/results/soak.json

A small random model behind ``smaug-torch`` scores many batches of different requests through lm-eval's API, and after
every tenth batch continues a few prompts. The memory that the process holds is fitted by a line over the requests, once
the first part is past, in which allocators and caches fill.

First without a journal: memory must be flat. Then, on a fifth of the requests, with one: it keeps every answer in
memory until the model is unloaded, so that none is computed twice, and an answer may cost what such an entry takes. The
number of open files must not grow in either. Exit code 1 where something grows beyond that.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from benchmarks.memory import held

BATCH = 2000
GENERATE_EVERY, PROMPTS = 10, 4
FLAT_BYTES = 16.0
"""Most that memory may grow by for each request: 3 MiB over 200,000 of them is what allocators drift by."""
ANSWER_BYTES = 400.0
"""Most that an answer may cost in memory: a key of 32 hexadecimal digits, a list, two numbers, a place in a dict."""
JOURNAL_SHARE = 5
WARM_UP = 0.25


def measure(requests: int, journal: Path | None, *, batch: int = BATCH) -> dict[str, Any]:
    """Score many requests, and look at the process after every batch.

    Args:
        requests: How many.
        journal: Folder for it; None for none.
        batch: Requests of one call.
    """
    engine = small_engine(journal)
    rows, started = [], time.monotonic()
    for number in range(requests // batch):
        engine.loglikelihood(asked(number, batch), disable_tqdm=True)
        if number % GENERATE_EVERY == 0:
            engine.generate_until(continued(number), disable_tqdm=True)
        gc.collect()
        size = sum(file.stat().st_size for file in journal.glob("*.jsonl")) if journal else 0
        rows.append(((number + 1) * batch, held("cpu"), len(os.listdir("/proc/self/fd")), size))  # noqa: PTH208
    seconds = time.monotonic() - started
    engine.close_journal()
    kept = np.array(rows[int(len(rows) * WARM_UP) :], dtype=np.float64)
    memory, low, high = slope(kept[:, 0], kept[:, 1])
    growth, *_ = slope(kept[:, 0], kept[:, 3])
    return {
        "requests": rows[-1][0],
        "calls": len(rows),
        "seconds": round(seconds, 1),
        "warm_up_requests": rows[int(len(rows) * WARM_UP)][0],
        "resident_mib": {"first": _mib(rows[0][1]), "after_warm_up": _mib(int(kept[0, 1])), "last": _mib(rows[-1][1])},
        "bytes_per_request": {"slope": round(memory, 1), "low": round(low, 1), "high": round(high, 1)},
        "bytes_per_request_allowed": FLAT_BYTES if journal is None else ANSWER_BYTES,
        "open_files": {"after_warm_up": int(kept[0, 2]), "most_after": int(kept[:, 2].max())},
        "journal_bytes_per_request": round(growth, 1),
        "journal_bytes": rows[-1][3],
    }


def passed(found: Mapping[str, Any]) -> bool:
    """Return whether memory and files stay within what they may."""
    files = found["open_files"]
    flat = found["bytes_per_request"]["high"] <= found["bytes_per_request_allowed"]
    return bool(flat and files["most_after"] <= files["after_warm_up"])


def slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float]:
    """Fit a line through points by Theil and Sen, which few outliers do not move.

    Return its slope with 95% interval.
    """
    found = scipy.stats.theilslopes(y, x, alpha=0.95)
    return float(found.slope), float(found.low_slope), float(found.high_slope)


def small_engine(journal: Path | None) -> Any:
    """Return an engine with the embedded model's tokenizer around a tiny random model."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from smaug_eval.common.embedded import embedded_path
    from smaug_eval.engines.torch_engine import TorchEngine

    tokenizer = AutoTokenizer.from_pretrained(embedded_path("embedded:demo-model"))
    torch.manual_seed(0)
    size: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=256, **size)).eval()
    engine = TorchEngine(pretrained=model, tokenizer=tokenizer, device="cpu", row_tokens=4096)
    engine.keep_journal(journal)
    return engine


def asked(number: int, count: int) -> list[Any]:
    """Return the requests that no other batch has: four answers to each question."""
    from lm_eval.api.instance import Instance

    pairs = [(f"What is {number} and {index // 4}?", f" {index % 4} or {index}") for index in range(count)]
    return [Instance("loglikelihood", {}, pair, index, ("soak", index // 4, 1)) for index, pair in enumerate(pairs)]


def continued(number: int) -> list[Any]:
    """Return a few prompts to continue."""
    from lm_eval.api.instance import Instance

    settings = {"until": ["\n"], "max_gen_toks": 8}
    texts = [f"Say {number} and {index}:" for index in range(PROMPTS)]
    return [
        Instance("generate_until", {}, (text, settings), index, ("soak", index, 1)) for index, text in enumerate(texts)
    ]


def _mib(size: int) -> float:
    return round(size / 2**20, 1)


def main() -> None:
    """Print the measurement as JSON; exit code 1 where it does not pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--out", type=Path, help="write the JSON to this file, too")
    arguments = parser.parse_args()
    from smaug_eval.common.files import write_json
    from smaug_eval.runs.directory import now
    from smaug_eval.runs.environment import git_commit

    with tempfile.TemporaryDirectory() as folder:
        parts = {"without_journal": measure(arguments.requests, None)}
        parts["with_journal"] = measure(arguments.requests // JOURNAL_SHARE, Path(folder))
    command = f"python -m benchmarks.soak --requests {arguments.requests}"
    every = all(map(passed, parts.values()))
    found = {"command": command, "date": now()[:10], "git_commit": git_commit(), "passed": every, **parts}
    print(json.dumps(found, indent=2))
    if arguments.out is not None:
        write_json(arguments.out, found)
    sys.exit(0 if found["passed"] else 1)


if __name__ == "__main__":
    main()
