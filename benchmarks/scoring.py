"""Measure documents per second of a leaderboard's requests, ``smaug-torch`` beside lm-eval's ``hf``.

    python -m benchmarks.scoring --data-root MIRROR --tokenizer FOLDER [--suite v2] [--tasks arc hellaswag] [--docs 16]
    python -m benchmarks.scoring --data-root MIRROR --tokenizer FOLDER --alone --shape 12x768 --docs 2 --rounds 1

Both engines answer the same requests, a leaderboard's own, with one random-weight Llama that is loaded once, and take
turns: tokenised requests to answers, no model loading. hf's batch size is the fastest of --batch-sizes on the first
requests of each task. Answers to IFEval and MATH are generated, greedily and --new-tokens long: a model with random
weights does not stop by itself. Ours generates with the batch size of an evaluation that sets none. Ratios are taken
within a round, and their median over rounds is reported. --alone leaves hf out; two documents of each task at 12x768
then take some minutes.

ratios: ours / lm-eval's, documents per second. tokens_over_unique: tokens computed / tokens of the requests' prefix
trie. max_abs_diff: largest difference of a log-likelihood; disagreements: answers that differ in is_greedy;
differing_texts: generated answers that differ.
peak_mib: memory that one answering of all requests takes, at most, beyond what is held before. rounding: of half
precision, each engine's mean and largest difference from the answers of the same weights in float32.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import functools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.matmul_peak import clock_of, peak_flops, useful_flops
from benchmarks.memory import peak_above
from smaug_eval.engines.pace import Work
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.engines.shared import ScoredText
from smaug_eval.engines.torch_engine import TorchEngine
from smaug_eval.engines.trie import Text
from smaug_eval.leaderboard.protocol import build_documents, requests
from smaug_eval.leaderboard.registry import find_suite
from smaug_eval.leaderboard.suite import Suite

TASKS = {
    "v1": ("arc", "hellaswag", "mmlu", "truthfulqa", "winogrande"),
    "v2": ("ifeval", "bbh", "math", "gpqa", "musr", "mmlu_pro"),
}
GROUPS = ("mmlu", "bbh", "math", "gpqa", "musr")
SHAPES = {"8x256": (8, 256, 8), "12x768": (12, 768, 12)}  # layers, hidden size, heads
PROBED = 2  # documents, at least, on which hf's batch sizes are compared; never fewer requests than the largest
Answers = list[tuple[float, bool]]
GENERATED = "generate_until"


class CountedEngine(TorchEngine):
    """Record the texts that were scored last.

    Attributes:
        texts: The texts.
    """

    texts: Sequence[Text] = ()

    def score_texts(self, texts: Sequence[Text], known: Collection[int]) -> Iterator[Sequence[ScoredText]]:
        """Score texts as ever, and record them."""
        self.texts = texts
        yield from super().score_texts(texts, known)


def instances(
    task: str,
    count: int,
    data_root: Path | None,
    subjects: int = 1,
    suite: Suite | None = None,
    new_tokens: int | None = None,
) -> list[Instance]:
    """Return the requests of the first documents of a column; of a group of as many of each of the first tasks.

    Generated answers are greedy, and have ``new_tokens`` at most; as many as the task allows where None.
    """
    suite = find_suite("open_llm_v1") if suite is None else suite
    (column,) = [each for each in suite.columns if task in each.task]
    pairs = [
        pair
        for spec in column.leaves[:subjects]
        for document in build_documents(spec, *suite.rows(spec, data_root))[:count]
        for pair in requests(spec, document)
    ]
    limits = column.leaves[0].generation
    if limits is None:
        return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]
    greedy = {"max_gen_toks": new_tokens or limits.max_new_tokens, "do_sample": False}
    asked = [(context, json.loads(stops) | greedy) for context, stops in pairs]
    return [Instance(GENERATED, {}, each, index) for index, each in enumerate(asked)]


def random_model(
    shape: str, tokenizer: PreTrainedTokenizerBase, dtype: str, device: str, context: int = 2048
) -> PreTrainedModel:
    """Return a Llama with random weights."""
    layers, hidden, heads = SHAPES[shape]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config).to(device, getattr(torch, dtype)).eval()


def timed(engine: HFLM, asked: list[Instance]) -> tuple[float, Any]:
    """Return the seconds to answer, and the answers: :data:`Answers`, or generated texts."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    answers = getattr(engine, asked[0].request_type)(asked, disable_tqdm=True)
    return time.perf_counter() - start, answers


def best_batch_size(engine: HFLM, asked: list[Instance], sizes: Sequence[int]) -> int:
    """Return the batch size at which hf answers fastest."""
    seconds = {}
    for size in sizes:
        engine.batch_size_per_gpu = size
        seconds[size] = timed(engine, asked)[0]
    return min(seconds, key=lambda size: seconds[size])


def differences(answers: Answers, exact: Answers) -> dict[str, float]:
    """Return how far log-likelihoods are from those in float32, in nats, and how many answers differ in is_greedy."""
    found = [abs(one[0] - other[0]) for one, other in zip(answers, exact, strict=True)]
    flipped = sum(one[1] != other[1] for one, other in zip(answers, exact, strict=True))
    return {"mean": round(statistics.mean(found), 4), "largest": round(max(found), 4), "disagreements": flipped}


def compare(
    ours: CountedEngine, theirs: HFLM | None, exact: TorchEngine | None, task: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return one task's measurement."""
    suite = find_suite(f"open_llm_{arguments.suite}")
    asked = instances(task, arguments.docs, arguments.data_root, arguments.subjects, suite, arguments.new_tokens)
    documents = arguments.docs * (arguments.subjects if task in GROUPS else 1)
    per_document = max(1, len(asked) // documents)
    if theirs is not None:
        probed = asked[: max(PROBED * per_document, *arguments.batch_sizes)]
        theirs.batch_size_per_gpu = best_batch_size(theirs, probed, arguments.batch_sizes)
    timed(ours, asked[:per_document])
    engines = [ours] if theirs is None else [ours, theirs]
    clock, device = clock_of(arguments.device), arguments.device
    rounds, possible = [], []
    for _ in range(arguments.rounds):
        before, start = peak_flops(ours.model, device), clock()
        own = timed(ours, asked)
        seconds = clock() - start
        possible.append(seconds * max(before, peak_flops(ours.model, device)))
        rounds.append([own, *(timed(engine, asked) for engine in engines[1:])])
    answers = {name: each for name, (_, each) in zip(("ours", "hf"), rounds[-1], strict=False)}
    peaks = [peak_above(device, functools.partial(timed, engine, asked)) for engine in engines]
    found: dict[str, Any] = {
        "requests": len(asked),
        "documents_per_second": round(documents / statistics.median(one[0][0] for one in rounds), 3),
        "peak_mib": {name: round(each, 1) for name, each in zip(answers, peaks, strict=True)},
    }
    if theirs is not None:
        found["batch_size"] = theirs.batch_size_per_gpu
        found["ratio"] = round(statistics.median(hf[0] / own[0] for own, hf in rounds), 2)
    if asked[0].request_type == GENERATED:
        return found | ({} if theirs is None else {"differing_texts": sum(map(str.__ne__, *answers.values()))})
    work, useful = cast("Work", ours.work), useful_flops(ours.model.config, ours.texts)
    found["peak_share"] = round(statistics.median(useful / most for most in possible), 3)
    found["tokens_over_unique"] = round(work.computed / work.unique, 4)
    found["tokens_saved"] = round(work.saved, 4)
    if theirs is not None:
        pairs = list(zip(*answers.values(), strict=True))
        found["max_abs_diff"] = max(abs(one[0] - other[0]) for one, other in pairs)
        found["disagreements"] = sum(one[1] != other[1] for one, other in pairs)
    if exact is not None:
        truth = timed(exact, asked)[1]
        found["rounding"] = {name: differences(each, truth) for name, each in answers.items()}
    return found


def main() -> None:
    """Print the measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="offline mirror; the Hub if left out")
    parser.add_argument("--tokenizer", required=True, help="folder or name of the tokenizer")
    parser.add_argument("--suite", choices=list(TASKS), default="v1", help="which leaderboard's requests")
    parser.add_argument("--tasks", nargs="+", help=f"of v1 {', '.join(TASKS['v1'])}; of v2 {', '.join(TASKS['v2'])}")
    parser.add_argument("--docs", type=int, default=16, help="documents of each task")
    parser.add_argument("--subjects", type=int, default=1, help="tasks of each group, such as MMLU's subjects")
    parser.add_argument("--alone", action="store_true", help="without lm-eval's hf")
    parser.add_argument("--shape", choices=list(SHAPES), default="8x256")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--new-tokens", type=int, default=64, help="of a generated answer, at most")
    parser.add_argument("--row-tokens", type=int, help="of smaug-torch")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    known = TASKS[arguments.suite]
    arguments.tasks = arguments.tasks or list(known)
    if unknown := set(arguments.tasks) - set(known):
        parser.error(f"{arguments.suite} has no {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    context = 4096 if arguments.suite == "v2" else 2048
    model = random_model(arguments.shape, tokenizer, arguments.dtype, arguments.device, context)
    shared = {"pretrained": model, "tokenizer": tokenizer, "device": arguments.device}
    ours = CountedEngine(**shared, row_tokens=arguments.row_tokens, batch_size=EngineSpec.batch_size)
    theirs = None if arguments.alone else HFLM(**shared)
    exact = None
    if arguments.dtype != "float32":
        exact = TorchEngine(**shared | {"pretrained": copy.deepcopy(model).float()})
    load = [os.getloadavg()[0]]
    tasks = {task: compare(ours, theirs, exact, task, arguments) for task in arguments.tasks}
    settings = {"shape": arguments.shape, "dtype": arguments.dtype, "device": arguments.device, "way": ours.way}
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    machine |= {"torch": torch.__version__, "load": [round(each, 1) for each in (*load, os.getloadavg()[0])]}
    columns = {} if theirs is None else {"ratios": "ratio"}
    columns |= {"peak_share": "peak_share", "tokens_over_unique": "tokens_over_unique"}
    summary: dict[str, Any] = {
        title: {task: found[name] for task, found in tasks.items() if name in found}
        for title, name in columns.items()
        if any(name in found for found in tasks.values())
    }
    for name, whole in (("max_abs_diff", max), ("differing_texts", sum)):
        if each := [found[name] for found in tasks.values() if name in found]:
            summary[name] = whole(each)
    settings |= {"docs": arguments.docs, "rounds": arguments.rounds, "new_tokens": arguments.new_tokens}
    settings["date"] = str(datetime.date.today())
    summary["command"] = " ".join(["python -m benchmarks.scoring", *sys.argv[1:]])
    print(json.dumps(summary | {"tasks": tasks, "settings": settings, "machine": machine}, indent=2))


if __name__ == "__main__":
    main()
