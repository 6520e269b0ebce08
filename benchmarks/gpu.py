"""Measure on one GPU what the project claims, in at most eight minutes: one JSON.

    python -m benchmarks.gpu [--out FILE] [--parts training scoring ...]     (make gpu)
    python -m benchmarks.gpu --small                                         (the same parts in small on a CPU)

Each part runs in a process of its own with a time limit: one that fails says why and takes nothing from the others, and
what no time is left for, or what this machine lacks, is named under ``untried``. Models have random weights, texts are
random words, in the shapes of the real ones; nothing is fetched.

- training: pairs per second and peak memory of a 1B-class Llama, in bfloat16 over float32 weights: packed rows with
  FlexAttention and with SDPA, padded rows, and TRL's DPOTrainer; the share of the data sheet's FLOP/s that packed rows
  reach, beside the share that `smaug-eval plan` assumes.
- scoring: documents per second of smaug-torch and of lm-eval's hf at its best batch size.
- exactness: log-likelihoods of 200 documents on this device, in float32 and bfloat16, against float32 on the CPU.
- generation: tokens per second of smaug-torch and hf.
- vllm: documents per second of smaug-vllm and lm-eval's vllm, where vLLM is installed.
- processes: a training by DDP and by FSDP2 in two processes against one, where there are two GPUs.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.memory import forget_peak, peak
from benchmarks.scoring import best_batch_size, differences, timed
from benchmarks.training import FORMS, Contestant, make_pairs, shapes
from smaug_eval.common.embedded import embedded_path
from smaug_eval.engines.torch_engine import TorchEngine
from smaug_eval.planning.activations import PairLengths
from smaug_eval.planning.machines import COMPUTE_SHARE, GPUS
from smaug_eval.planning.shapes import shape_of
from smaug_eval.planning.work import training_flops
from smaug_eval.trainers.config import TrainingConfig

MOST_SECONDS = 480.0
"""Seconds that all parts may take."""
CONTESTANTS = ("ours", "sdpa", "dense", "trl")


@dataclass(frozen=True)
class Size:
    """Hold how large the parts are.

    Attributes:
        device: ``cuda`` or ``cpu``.
        dtype: In which models are scored.
        layers: Of the large model, like ``hidden`` and ``heads``.
        pairs: Of a training, in batches of ``batch``.
        documents: Of the scoring.
        context: Tokens of a document's context.
        exact: Documents whose log-likelihoods are compared with the CPU's.
        prompts: Texts that are continued by ``written`` tokens.
        rounds: Of each measurement.
        batch_sizes: That hf may choose from.
        vocabulary: Of the model that is trained.
    """

    device: str
    dtype: str
    layers: int
    hidden: int
    heads: int
    pairs: int
    batch: int
    documents: int
    context: int
    exact: int
    prompts: int
    written: int
    rounds: int
    batch_sizes: tuple[int, ...]
    vocabulary: int = 32_000


LARGE = Size("cuda", "bfloat16", 16, 2048, 32, 32, 8, 96, 900, 200, 64, 64, 3, (8, 32, 64))
SMALL = Size("cpu", "float32", 2, 64, 2, 4, 2, 3, 60, 4, 2, 4, 1, (1, 2), 512)


def llama(size: Size, vocabulary: int | None = None, context: int = 2048) -> LlamaConfig:
    """Return the configuration of the large model: of Llama 3.2 1B's shape at full size."""
    return LlamaConfig(
        vocab_size=vocabulary or size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=4 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=max(1, size.heads // 4),
        max_position_embeddings=context,
        bos_token_id=0,
        eos_token_id=0,
    )


def training(size: Size) -> dict[str, Any]:
    """Time packed, padded and TRL's steps on the same pairs from the same weights, each trainer alone on the device."""
    return {form: _training_of(form, size) for form in FORMS}


def _training_of(form: str, size: Size) -> dict[str, Any]:
    pairs = make_pairs(form, size.pairs, None, None)
    batches = [range(start, start + size.batch) for start in range(0, size.pairs, size.batch)]
    found: dict[str, dict[str, Any]] = {}
    losses: dict[str, list[float]] = {}
    for name in CONTESTANTS:
        try:
            with tempfile.TemporaryDirectory() as folder:
                contestant = Contestant(name, pairs, size.vocabulary, size.device, Path(folder), config=llama(size))
                contestant.step(batches[0])  # the optimiser's state is there from the first step on
                forget_peak(size.device)
                steps = [contestant.step(batch) for _ in range(size.rounds) for batch in batches]
                found[name] = {
                    "pairs_per_second": round(size.batch / statistics.median(taken for taken, _ in steps), 3),
                    "peak_mib": round(peak(size.device) / 2**20),
                    **({"flex": contestant.flex} if name == "ours" else {}),
                }
                losses[name] = [loss for _, loss in steps]
                contestant.close()
                del contestant
        except torch.OutOfMemoryError:
            found[name] = {"failed": "out of memory"}
        if size.device == "cuda":
            torch.cuda.empty_cache()
    speeds = {name: each["pairs_per_second"] for name, each in found.items() if "pairs_per_second" in each}
    return {
        "shapes": shapes(pairs),
        "trainers": found,
        "ratios": {name: round(speeds["ours"] / speed, 3) for name, speed in speeds.items() if "ours" in speeds},
        "largest_loss_difference": {
            name: max(abs(one - other) for one, other in zip(losses["ours"], each, strict=True))
            for name, each in losses.items()
            if "ours" in losses
        },
        **_utilisation(size, pairs, speeds.get("ours")),
    }


def _utilisation(size: Size, pairs: list[Any], speed: float | None) -> dict[str, Any]:
    """The share of the data sheet's FLOP/s that packed rows reach, and what a plan assumes."""
    gpu = next((each for name, each in GPUS.items() if name in _device_name(size.device)), None)
    if speed is None:
        return {}
    shape = shape_of(llama(size).to_dict(), "measured", "benchmarks.gpu")
    config = TrainingConfig.model_validate({"loss": "dpo"})
    lengths = [
        PairLengths(len(each.prompt), each.common, len(each.chosen) - each.common, len(each.rejected) - each.common)
        for each in pairs
    ]
    flops = statistics.fmean(training_flops(shape, config, each, True, size.batch) for each in lengths)
    reached = {"teraflops": round(flops * speed / 1e12, 3), "assumed_by_plan": COMPUTE_SHARE}
    return {"compute": reached if gpu is None else {**reached, "share_of_peak": round(flops * speed / gpu.flops, 3)}}


def scoring(size: Size) -> dict[str, Any]:
    """Time smaug-torch and lm-eval's hf on requests of ARC's shape: four answers behind a long context."""
    tokenizer = _tokenizer()
    model = _model(size, tokenizer)
    ours, theirs = (engine(pretrained=model, tokenizer=tokenizer, device=size.device) for engine in (TorchEngine, HFLM))
    asked = _requests(tokenizer, size.documents, size.context)
    theirs.batch_size_per_gpu = best_batch_size(theirs, asked[:32], size.batch_sizes)
    timed(ours, asked[:8])
    rounds = [(timed(ours, asked), timed(theirs, asked)) for _ in range(size.rounds)]
    (_, answers), (_, expected) = rounds[-1]
    return {
        "ratio": round(statistics.median(hf / own for (own, _), (hf, _) in rounds), 2),
        "documents_per_second": round(size.documents / statistics.median(own for (own, _), _ in rounds), 2),
        "hf_batch_size": theirs.batch_size_per_gpu,
        "difference": differences(answers, expected),
        "way": ours.way,
    }


def exactness(size: Size) -> dict[str, Any]:
    """Compare log-likelihoods on the device with float32 on the CPU, with a model that the CPU can carry."""
    tokenizer = _tokenizer()
    model = _model(SMALL if size is SMALL else _with_shape(size, 8, 256, 8), tokenizer, "float32")
    asked = _requests(tokenizer, size.exact, min(size.context, 200))
    exact = timed(TorchEngine(pretrained=copy.deepcopy(model).to("cpu"), tokenizer=tokenizer, device="cpu"), asked)[1]
    found = {}
    for dtype in ("float32", "bfloat16"):
        engine = TorchEngine(
            pretrained=model.to(size.device, getattr(torch, dtype)), tokenizer=tokenizer, device=size.device
        )
        found[dtype] = differences(timed(engine, asked)[1], exact)
    return {"documents": size.exact, **found}


def generation(size: Size) -> dict[str, Any]:
    """Time the continuation of prompts, greedily and to the same length."""
    tokenizer = _tokenizer()
    model = _model(size, tokenizer)
    settings = {"until": [], "max_gen_toks": size.written, "do_sample": False}
    prompts = [_words(tokenizer, 40, index) for index in range(size.prompts)]
    seconds = {}
    for name, engine in {"ours": TorchEngine, "hf": HFLM}.items():
        lm = engine(pretrained=model, tokenizer=tokenizer, device=size.device, batch_size=size.prompts)
        asked = [Instance("generate_until", {}, (text, settings), index) for index, text in enumerate(prompts)]
        timed(lm, asked[:1])
        seconds[name] = timed(lm, asked)
    written = size.prompts * size.written
    return {
        "tokens_per_second_at_most": {name: round(written / taken, 1) for name, (taken, _) in seconds.items()},
        "ratio": round(seconds["hf"][0] / seconds["ours"][0], 2),
        "equal_texts": sum(map(str.__eq__, seconds["ours"][1], seconds["hf"][1])),
        "prompts": size.prompts,
    }


def vllm(size: Size) -> dict[str, Any]:
    """Time smaug-vllm and lm-eval's vllm in one loaded vLLM."""
    from benchmarks.vllm_scoring import compare, lm_evals_own
    from smaug_eval.engines.vllm_engine import VllmEngine

    tokenizer = _tokenizer()
    asked = _requests(tokenizer, size.documents, size.context)
    with tempfile.TemporaryDirectory() as folder:
        _model(_with_shape(size, size.layers, max(size.hidden, 128), size.heads), tokenizer).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        ours = VllmEngine(folder, dtype=size.dtype, add_bos_token=False, enforce_eager=size is SMALL)
        return compare(ours, lm_evals_own(ours), asked, size.documents, size.rounds)


def processes(size: Size) -> dict[str, Any]:
    """Train the embedded model in one process, and in two by DDP and by FSDP2; the losses of each step must agree."""
    import smaug_eval

    launches: dict[str, dict[str, Any]] = {"ddp": {"processes": 2}}
    if size.device == "cuda":
        launches["fsdp2"] = {"config": "accelerate/fsdp2.yaml", "processes": 2}
    found: dict[str, Any] = {}
    losses: dict[str, list[float]] = {}
    for name in ("one", *launches):
        share = {"launch": launches[name]} if name in launches else {"gradient_accumulation": 2}
        recipe = {
            "name": name,
            "model": {"path": "embedded:demo-model", "dtype": "float32"},
            "pairs": {"sums": {"source": "metamath", "path": "embedded:demo-arithmetic", "limit": 64, "holdout": 8}},
            "trainings": {"t": {"loss": "dpop", "pairs": "sums", "steps": 4, "batch_size": 4, **share}},
        }
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            run = smaug_eval.run(recipe, runs=folder)
            found[name] = {"seconds": round(time.perf_counter() - started, 1)}
            rows = map(json.loads, (run.path / "train" / "t" / "log.jsonl").read_text(encoding="utf-8").splitlines())
            losses[name] = [float(row["loss"]) for row in rows if "loss" in row]
    return {
        "runs": found,
        "losses_compared": len(losses["one"]),
        "largest_loss_difference": {
            name: max(abs(one - other) for one, other in zip(losses["one"], losses[name], strict=True))
            for name in launches
        },
    }


PARTS: Mapping[str, tuple[float, Callable[[Size], dict[str, Any]]]] = {
    "training": (180.0, training),
    "scoring": (90.0, scoring),
    "exactness": (60.0, exactness),
    "generation": (60.0, generation),
    "vllm": (120.0, vllm),
    "processes": (120.0, processes),
}
"""Seconds that each part may take at most, and what it does; in the order of their worth."""


def why_not(part: str, size: Size) -> str | None:
    """Return why this machine cannot do a part; None where it can."""
    if part == "vllm" and importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed"
    if part == "processes" and torch.cuda.device_count() < 2:
        return f"{torch.cuda.device_count()} GPUs, and two processes need two"
    return None


def run_parts(names: list[str], size: Size, most_seconds: float = MOST_SECONDS) -> dict[str, Any]:
    """Run parts one after the other, each in a process of its own.

    Returns:
        ``parts`` with what each found, or why it ``failed``; ``untried`` with why; ``seconds`` of each.
    """
    found: dict[str, Any] = {}
    untried: dict[str, str] = {}
    seconds: dict[str, float] = {}
    ends = time.monotonic() + most_seconds
    for name in names:
        left = ends - time.monotonic()
        reason = why_not(name, size) or ("no time was left" if left < 10 else None)
        if reason is not None:
            untried[name] = reason
            continue
        started = time.monotonic()
        most = PARTS[name][0] if size is LARGE else left
        found[name] = _in_a_process(name, size, min(left, most))
        seconds[name] = round(time.monotonic() - started, 1)
    return {"parts": found, "untried": untried, "seconds": seconds}


def _in_a_process(name: str, size: Size, most_seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, "--out", str(file)]
        command += ["--small"] if size is SMALL else []
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=most_seconds, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            return {"failed": f"it took longer than {most_seconds:.0f} s"}
        if done.returncode or not file.is_file():
            last = [line for line in done.stderr.splitlines() if line.strip()][-3:]
            return {"failed": " | ".join(last) or f"exit code {done.returncode}"}
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found


def _tokenizer() -> PreTrainedTokenizerBase:
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(embedded_path("demo-model"))
    return found


def _model(size: Size, tokenizer: PreTrainedTokenizerBase, dtype: str | None = None) -> PreTrainedModel:
    torch.manual_seed(0)
    model = LlamaForCausalLM(llama(size, len(tokenizer)))
    return model.to(size.device, getattr(torch, dtype or size.dtype)).eval()


def _with_shape(size: Size, layers: int, hidden: int, heads: int) -> Size:
    return Size(**{**vars(size), "layers": layers, "hidden": hidden, "heads": heads})


def _words(tokenizer: PreTrainedTokenizerBase, tokens: int, seed: int) -> str:
    rng = random.Random(seed)
    return str(tokenizer.decode([rng.randrange(10, len(tokenizer)) for _ in range(tokens)], skip_special_tokens=True))


def _requests(tokenizer: PreTrainedTokenizerBase, documents: int, context: int) -> list[Instance]:
    """Four answers of a few words behind each context."""
    pairs = [
        (_words(tokenizer, context, index), " " + _words(tokenizer, 3 + option, 4 * index + option + 10**6))
        for index in range(documents)
        for option in range(4)
    ]
    return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


def _machine(size: Size) -> dict[str, Any]:
    names = ("torch", "transformers", "lm-eval", "trl", "vllm")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "device": _device_name(size.device),
        "gpus": torch.cuda.device_count(),
        "cpus": os.cpu_count(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def main() -> None:
    """Print the JSON, and write it to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="everything in small, on the CPU")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--out", type=Path, help="file to write the JSON to")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = SMALL if arguments.small else LARGE
    if size is LARGE and not torch.cuda.is_available():
        parser.error("there is no GPU here; --small runs every part in small on the CPU")
    if arguments.part:
        found = PARTS[arguments.part][1](size)
    else:
        most = MOST_SECONDS if size is LARGE else 3600.0  # how slow the machine of a test is, is not the question
        found = {"machine": _machine(size), "small": arguments.small, **run_parts(arguments.parts, size, most)}
    text = json.dumps(found, indent=2) + "\n"
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    if not arguments.part:
        print(text, end="")


if __name__ == "__main__":
    main()
