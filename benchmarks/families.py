"""Score every causal language model family of transformers, and compare with the model's own results.

    python -m benchmarks.families --out benchmarks/results/families.json [--doc docs/families.md] [--only bert phi3]

Of each family a tiny model with random weights is built (:mod:`benchmarks.tiny_models`): windows, chunks and top-k of 8
tokens, texts of up to 100. ``smaug_eval.prefix.scorer.scoring`` chooses a way to ask it. What is expected is one
forward pass of the model over each text alone, with its own attention.

way: packed, padded, plain, single, or refused; limit: tokens beyond which texts are scored one at a time. difference:
largest one of a token's log-probability, in nats. unshared: the same with share_prefix switched off. gradient: largest
difference of a weight's gradient, as a share of the largest gradient. noise: of two passes in training mode without
dropout, in nats; stilled: what was switched off against it. Every case has a process of its own and a time limit.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.tiny_models import FAMILIES, PLACEHOLDER, VOCABULARY, tiny_model
from smaug_eval.common.errors import SmaugError
from smaug_eval.prefix.layout import Layout, PrefixGroup
from smaug_eval.prefix.scorer import Scorer, scoring
from smaug_eval.trainers.base_model import no_dropout
from smaug_eval.trainers.randomness import without_noise

TOLERANCE = 1e-3  # nats that rounding explains in float32
GRADIENT_TOLERANCE = 1e-3  # of the largest gradient
LONGEST = 100  # tokens of the longest text
SHORT = 8  # of another trial's, which are within most windows
SECONDS = 120  # a case may take


@dataclass(frozen=True)
class FamilyCase:
    """Describe one model.

    Attributes:
        name: Of the row.
        family: transformers' model type.
        settings: Of its configuration, beside those that make it tiny.
        attention: transformers' name of its attention; its default if None.
        longest: Tokens of the longest text.
    """

    name: str
    family: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    attention: str | None = None
    longest: int = LONGEST


_ENCODERS = (
    *("bert", "bert-generation", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"),
    *("rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)


def _long_rope(tokens: int) -> dict[str, Any]:
    """Phi-3's RoPE, whose frequencies are others once a text is longer than ``tokens``; of heads of size 8."""
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    lengths = {"original_max_position_embeddings": tokens}
    return lengths | {"rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0} | lengths | factors}


VARIANTS = (
    *(FamilyCase(f"{family}, is_decoder", family, {"is_decoder": True}) for family in _ENCODERS),
    FamilyCase("big_bird, is_decoder", "big_bird", {"is_decoder": True}),
    FamilyCase("big_bird, is_decoder, full", "big_bird", {"is_decoder": True, "attention_type": "original_full"}),
    FamilyCase("gemma2, soft cap 2, eager", "gemma2", {"attn_logit_softcapping": 2.0}, "eager"),
    FamilyCase("gemma2, soft cap 2, sdpa", "gemma2", {"attn_logit_softcapping": 2.0}, "sdpa"),
    FamilyCase("llama, eager", "llama", {}, "eager"),
    FamilyCase("mixtral, jitter", "mixtral", {"router_jitter_noise": 0.1}),
    FamilyCase("phimoe, jitter", "phimoe", {"input_jitter_noise": 0.1}),
    FamilyCase("phi3, long RoPE", "phi3", _long_rope(16)),
    FamilyCase(
        "qwen2, half sliding", "qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}
    ),
    # Lengths that a trial cannot reach, so that it is held with them made shorter.
    FamilyCase("mistral, window 300", "mistral", {"sliding_window": 300}, longest=360),
    FamilyCase("gemma3_text, window 300", "gemma3_text", {"sliding_window": 300}, longest=360),
    FamilyCase("llama4_text, chunk 300", "llama4_text", {"attention_chunk_size": 300}, longest=360),
    FamilyCase("phi3, long RoPE 300", "phi3", _long_rope(300), longest=360),
    FamilyCase("gpt_neo, window 300", "gpt_neo", {"window_size": 300}, longest=360),
    FamilyCase("deepseek_v32, top-k 300", "deepseek_v32", {"index_topk": 300}, longest=360),
    FamilyCase("glm_moe_dsa, top-k 300", "glm_moe_dsa", {"index_topk": 300}, longest=360),
    FamilyCase("doge, window 300", "doge", {"keep_window_size": 300}, longest=360),
)
CASES = (*(FamilyCase(family, family) for family in FAMILIES), *VARIANTS)


def measure(case: FamilyCase) -> dict[str, Any]:
    """Return one row of the result; never raises but for a bug in scoring."""
    row: dict[str, Any] = {"name": case.name, "family": case.family}
    try:
        model, twin = (tiny_model(case.family, attention=case.attention, **case.settings) for _ in range(2))
    except Exception as error:  # configurations raise anything
        return {**row, "way": "not built", "reason": _line(error)}
    row |= {"architecture": type(model).__name__}
    drawn = [groups(longest, seed) for seed, longest in enumerate({case.longest: 0, LONGEST: 0, SHORT: 0})]
    try:
        expected = [_plain(twin, each) for each in drawn]
        gradient = _gradient(twin, _plain(twin, drawn[0], gradients=True))
    except Exception as error:  # what such a model says is refused, or else compared with nothing and failed
        expected, gradient = [], {}
        row["plain"] = _line(error)
    try:
        with scoring(model) as scorer:
            row |= _way(scorer, model, drawn, expected)
            row["gradient"] = _rounded(_apart(_gradient(model, _asked(scorer, model, drawn[0])), gradient))
        with scoring(model, share=False) as scorer:
            row["unshared"] = _way(scorer, model, drawn, expected)
        row |= _training(model)
    except SmaugError as error:
        row |= {"way": "refused", "reason": error.message}
    return row


def groups(longest: int, seed: int) -> list[PrefixGroup]:
    """Return the texts of all lengths up to ``longest`` tokens, two of each beginning."""
    rng = np.random.default_rng(seed)

    def ids(count: int) -> Any:
        drawn = rng.integers(0, VOCABULARY, count, dtype=np.int32)
        return np.where(drawn == PLACEHOLDER, drawn + 1, drawn)

    half = longest // 2
    sizes = [
        (half, (longest - half, longest // 3)),
        (int(rng.integers(2, half)), (int(rng.integers(1, half)), 5)),
        (3, (4, 0)),
    ]
    return [PrefixGroup(ids(shared), tuple(map(ids, tails)), max(1, shared // 2)) for shared, tails in sizes]


def passed(row: Mapping[str, Any]) -> bool:
    """Check that a row reports no fault: every number is the model's own, or it was refused."""
    if row["way"] in ("refused", "not built"):
        return True
    if row["way"] == "failed":
        return False
    near = max(row["difference"], row["unshared"]["difference"]) <= TOLERANCE
    return near and row["gradient"] <= GRADIENT_TOLERANCE and not row["left"]


def _way(
    scorer: Scorer, model: PreTrainedModel, drawn: Sequence[list[PrefixGroup]], expected: Sequence[list[Tensor]]
) -> dict[str, Any]:
    with torch.no_grad():
        found = [_asked(scorer, model, each) for each in drawn]
    pairs = [pair for ours, own in zip(found, expected, strict=True) for pair in zip(ours, own, strict=True)]
    difference = max(float((ours - own).abs().max()) for ours, own in pairs if len(own))
    return {"way": scorer.way.value, "reason": scorer.reason, "limit": scorer.limit, "difference": _rounded(difference)}


def _asked(scorer: Scorer, model: PreTrainedModel, asked: list[PrefixGroup]) -> list[Tensor]:
    """The scored log-probabilities of each text."""
    layout: Layout = scorer.layout(asked)
    parts = iter(layout.parts(scorer.log_probs(model, layout)))
    if not layout.spans:
        return list(parts)
    found = []
    for group in asked:
        shared = next(parts)
        found += [torch.cat([shared, next(parts)]) for _ in group.tails]
    return found


def _plain(model: PreTrainedModel, asked: Sequence[PrefixGroup], *, gradients: bool = False) -> list[Tensor]:
    """The log-probabilities from one forward pass of the model over each text."""
    found = []
    with torch.set_grad_enabled(gradients):
        for group in asked:
            for tail in group.tails:
                ids = torch.from_numpy(np.concatenate([group.prefix, tail])).long()[None]
                log_probs = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].float(), dim=-1)
                found.append(log_probs[:-1].gather(1, ids[0, 1:, None]).squeeze(1)[group.scored_from - 1 :])
    return found


def _gradient(model: PreTrainedModel, log_probs: Sequence[Tensor]) -> dict[str, Tensor]:
    """Gradients of a sum of log-probabilities with a weight for each."""
    model.zero_grad()
    whole = torch.cat(list(log_probs))
    (whole * torch.linspace(-1, 1, len(whole))).sum().backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return found


def _apart(ours: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> float:
    largest = max(float(gradient.abs().max()) for gradient in own.values())
    zero = torch.zeros(())
    return max(float((ours.get(name, zero) - own.get(name, zero)).abs().max()) for name in {*ours, *own}) / largest


def _training(model: PreTrainedModel) -> dict[str, Any]:
    """What two passes in training mode differ by without dropout, and what is done about it."""
    with no_dropout(model), scoring(model) as scorer:
        layout = scorer.layout(groups(LONGEST // 2, 0))
        model.train()
        first, second = (scorer.log_probs(model, layout).detach() for _ in range(2))
        model.eval()
        with without_noise(model, scorer) as noise:
            pass
    return {"noise": _rounded(float((first - second).abs().max())), "stilled": list(noise.stilled), "left": noise.left}


def _rounded(number: float) -> float:
    """Two digits: more would be another number on every machine."""
    return float(f"{number:.1e}")


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _work(case: FamilyCase, answer: Any) -> None:
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    try:
        answer.send(measure(case))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{_line(error)} ({Path(where.filename).name}:{where.lineno})"
        answer.send({"name": case.name, "family": case.family, "way": "failed", "reason": reason})


def isolated(case: FamilyCase, seconds: float = SECONDS) -> dict[str, Any]:
    """Return a row, measured in a process of its own that may crash or take too long."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.tiny_models", "smaug_eval.trainers.randomness"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(case, sender))
    process.start()
    sender.close()
    row = {"name": case.name, "family": case.family, "way": "failed", "reason": f"no answer within {seconds:g} s"}
    try:
        if receiver.poll(seconds):
            row = receiver.recv()
    except EOFError:
        process.join()
        row["reason"] = f"its process ended with {process.exitcode}"
    process.kill()
    process.join()
    return row


def sweep(cases: Sequence[FamilyCase], processes: int) -> dict[str, Any]:
    """Return all rows, in the order of the cases."""
    started = time.monotonic()
    rows = []
    with ThreadPoolExecutor(processes) as pool:
        for row in pool.map(isolated, cases):
            rows.append(row)
            print(f"{len(rows)}/{len(cases)} {row['name']}: {row['way']}", file=sys.stderr, flush=True)
    return {
        "families": len({row["family"] for row in rows}),
        "ways": dict(Counter(row["way"] for row in rows).most_common()),
        "wrong": [row["name"] for row in rows if not passed(row)],
        "tolerance": TOLERANCE,
        "seconds": round(time.monotonic() - started),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "rows": rows,
    }


def document(result: Mapping[str, Any]) -> str:
    """Return the result as Markdown."""
    rows = result["rows"]
    built = [row for row in rows if row["way"] != "not built"]
    asked = [row for row in rows if "difference" in row]
    counts = "\n".join(f"| {way} | {count} | {_WAYS[way]} |" for way, count in result["ways"].items())
    lines = "\n".join(_table_line(row) for row in rows)
    noisy = "\n".join(
        f"| {row['name']} | {row['noise']:.1e} | {', '.join(row['stilled'])} | {row['left'] or 'nothing'} |"
        for row in asked
        if row["noise"] > TOLERANCE or row["stilled"] or row["left"]
    )
    wrong = ", ".join(result["wrong"]) or "none"
    largest = max((row["difference"] for row in asked), default=0.0)
    return _PAGE.format(
        families=result["families"],
        cases=len(rows),
        built=len({row["family"] for row in built}),
        counts=counts,
        lines=lines,
        noisy=noisy,
        wrong=wrong,
        largest=f"{largest:.1e}",
        versions=", ".join(f"{name} {version}" for name, version in result["versions"].items()),
    )


def _table_line(row: Mapping[str, Any]) -> str:
    difference = f"{row['difference']:.1e}" if "difference" in row else ""
    limit = f" up to {row['limit']} tokens" if row.get("limit") else ""
    reason = " ".join(str(row.get("reason") or "").replace("|", "/").split())
    return f"| {row['name']} | {row['way']}{limit} | {difference} | {reason} |"


_WAYS = {
    "packed": "prefix-shared rows: several texts in a row, what they share is computed once",
    "padded": "one row for each text, padded on the right",
    "plain": "as padded, with the logits that the model itself computes",
    "single": "one text at a time, without padding",
    "refused": "no causal language model: the model gets no score",
    "not built": "transformers makes no model of these settings here",
    "failed": "a bug",
}
_PAGE = """<!-- Written by the command below; do not edit. -->
# Model families

How smaug-eval scores texts with each causal language model family of transformers, and how far the log-probabilities
are from the model's own: one forward pass over each text alone, with the attention that the model was loaded with. The
models are tiny and have random weights. Their windows, chunks and top-k are 8 tokens, the texts have up to 100. In the
rows that name a length of 300, the texts have up to 360 tokens.

- Families of `AutoModelForCausalLM`: {families}, of which {built} can be built here ({cases} models with the variants).
- Largest difference of a log-probability: {largest} nats. Models with a wrong number: {wrong}.
- Versions: {versions}.
- Measured with `python -m benchmarks.families --out benchmarks/results/families.json --doc docs/families.md`, on CPUs.

| way | models | what it is |
|---|---|---|
{counts}

A limit ("packed up to 300 tokens") is a length beyond which longer texts are scored one at a time.

| model | way | difference in nats | reason |
|---|---|---|---|
{lines}

## Noise in training mode

Models whose two passes in training mode differ although their dropout is off, by how much, what is switched off before
a training, and what is left.

| model | difference in nats | switched off | left |
|---|---|---|---|
{noisy}
"""


def main() -> None:
    """Measure, and write the result and its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write; printed if left out")
    parser.add_argument("--doc", type=Path, help="Markdown file to write")
    parser.add_argument("--only", nargs="+", metavar="FAMILY", help="families to measure; all if left out")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    cases = [case for case in CASES if arguments.only is None or case.family in arguments.only]
    result = sweep(cases, arguments.processes)
    text = json.dumps(result, indent=1) + "\n"
    if arguments.out is None:
        print(text)
    else:
        arguments.out.write_text(text)
    if arguments.doc is not None:
        arguments.doc.write_text(document(result))


if __name__ == "__main__":
    main()
