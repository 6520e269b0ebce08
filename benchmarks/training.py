"""Measure pairs per second and peak memory of preference training, beside TRL and an ordinary padded batch.

    python -m benchmarks.training --data-root MIRROR --tokenizer FOLDER [--loss dpo dpo_nll simpo orpo]
        [--vocabulary 4096 50304] [--device cpu] [--memory ours question dense trl]

Four trainers of each loss take the same optimiser steps on the same pairs, one after the other in each round, from the
same random weights (a GPT-NeoX of Pythia's smallest shape): ours, which computes once what the completions of a pair
share (ours); ours, which computes once what all pairs of a question share (question); ours with padded rows (dense);
and TRL's of the same loss (trl). Batches hold whole questions where these fit, as with batching: question. TRL's
trainer is DPOTrainer for dpo and dpo_nll, with the reference computed beforehand; for simpo and orpo, which have none,
the experimental CPOTrainer and ORPOTrainer, whose forward pass computes chosen and rejected in one padded batch. TRL
averages dpo_nll's likelihood over the tokens of a batch, and orpo's over the prompt's as well: there
largest_loss_difference compares ours with each other alone. Ratios are taken within a round; their median over rounds
is reported. Several losses are measured in the same rounds, each round in another order. A single thread on a CPU is
timed by its processor time, which other work on the machine hardly changes; everything else by the clock. Peak memory
is measured in a process of its own for each trainer. Without --data-root the pairs are random tokens in the lengths of
the real ones.

ratios: ours / the faster of padded and TRL's, pairs per second. over_dpo: a loss's vs_dense or vs_trl / dpo's in the
same round. question_vs_ours: question / ours. tokens_over_unique: tokens of our forward pass / tokens that any trainer
of single pairs must compute; question_tokens_over_unique and packed_tokens_over_unique: of question and of ours /
distinct beginnings of texts in a batch.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPTNeoXConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    TrainingArguments,
)

from benchmarks.memory import cpu_name, forget_peak, peak
from benchmarks.peers import trl_peer
from smaug_eval.engines.trie import Text, shared_lengths, sort_key
from smaug_eval.engines.trie import unique_tokens as trie_tokens
from smaug_eval.prefix.scorer import scoring
from smaug_eval.runs.directory import now
from smaug_eval.runs.environment import git_commit
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.log_probs import separate_layout
from smaug_eval.trainers.questions import question_members, question_order
from smaug_eval.trainers.reference import score_pairs
from smaug_eval.trainers.tokenization import EncodedPair, PairEncoder
from smaug_eval.trainers.trainer import PairTrainer, ScoredPairs

FORMS = ("metamath", "arc")
LOSSES = ("dpo", "dpo_nll", "simpo", "orpo")
SAME_IN_TRL = ("dpo", "simpo")
CONTESTANTS = ("ours", "question", "dense", "trl")
BETA = 0.3
SHORTEST, LONGEST = 500, 900  # tokens of a MetaMath pair
RATIOS = (3.0, 5.0)  # its prompt's length over its completions'
ARC_PAIRS = 3  # of a question with four answers


def make_pairs(form: str, count: int, data_root: Path | None, tokenizer: PreTrainedTokenizerBase | None) -> list[Any]:
    """Make encoded pairs of a form: few-shot MetaMath pairs in the published shape, or ARC pairs.

    The published few-shot MetaMath pairs have a prompt 3.9 times as long as a completion; GSM8K's solutions are shorter
    than MetaMath's, so those are taken that come near it.
    """
    if data_root is None or tokenizer is None:
        return _random_pairs(form, count)
    questions = [list(rows) for _, rows in itertools.groupby(_built_rows(form, data_root), lambda row: row["prompt"])]
    random.Random(0).shuffle(questions)
    rows = [row for question in questions for row in question]
    pairs: list[EncodedPair] = []
    for start in range(0, len(rows), 64):
        encoded = PairEncoder(tokenizer, 2048).encode(rows[start : start + 64]).pairs
        pairs += [pair for pair in encoded if form == "arc" or _has_published_shape(pair)]
        if len(pairs) >= count:
            return pairs[:count]
    raise SystemExit(f"only {len(pairs)} {form} pairs in {data_root}")


def _has_published_shape(pair: EncodedPair) -> bool:
    ratio = 2 * len(pair.prompt) / (len(pair.chosen) + len(pair.rejected))
    return SHORTEST <= pair.length <= LONGEST and RATIOS[0] <= ratio <= RATIOS[1]


def _built_rows(form: str, data_root: Path) -> list[dict[str, Any]]:
    from pydantic import TypeAdapter

    from smaug_eval.trainers.config import PairsConfig
    from smaug_eval.trainers.pairs.build import build_pairs
    from smaug_eval.trainers.pairs.read import read_pairs

    sources = {
        "metamath": {"source": "metamath", "path": "openai/gsm8k", "config": "main"},
        "arc": {"source": "arc", "path": "allenai/ai2_arc", "config": "ARC-Challenge"},
    }
    config: Any = TypeAdapter(PairsConfig).validate_python(sources[form])
    with tempfile.TemporaryDirectory() as folder:
        build_pairs(config, data_root=data_root, out_dir=Path(folder))
        return [dict(row) for row in read_pairs(Path(folder) / "train.jsonl")]


def _random_pairs(form: str, count: int) -> list[EncodedPair]:
    """Random tokens; of an ARC question three pairs, which have its prompt and its chosen answer."""
    pairs = [_random_pair(form, random.Random(f"{form}:{index}")) for index in range(count)]
    if form != "arc":
        return pairs
    first = [pairs[index - index % ARC_PAIRS] for index in range(count)]
    return [replace(pair, prompt=own.prompt, chosen=own.chosen) for pair, own in zip(pairs, first, strict=True)]


def _random_pair(form: str, rng: random.Random) -> EncodedPair:
    def ids(size: int) -> Any:
        return np.array([rng.randrange(1, 4096) for _ in range(size)], np.int32)

    if form == "arc":
        return EncodedPair(ids(rng.randrange(40, 260)), ids(rng.randrange(2, 16)), ids(rng.randrange(2, 16)))
    length = rng.randrange(SHORTEST, LONGEST)
    completion = ids(length // 5)
    rejected = completion.copy()
    place = rng.randrange(10, len(completion) - 10)
    rejected[place : place + 2] += 1
    return EncodedPair(ids(length - len(completion)), completion, rejected)


def shapes(pairs: Sequence[EncodedPair]) -> dict[str, float]:
    """Return what the pairs look like, in tokens."""
    completions = [(len(pair.chosen) + len(pair.rejected)) / 2 for pair in pairs]
    return {
        "pairs": len(pairs),
        "median_tokens": statistics.median(pair.length for pair in pairs),
        "prompt_to_completion": round(
            statistics.median(len(pair.prompt) / size for pair, size in zip(pairs, completions, strict=True)), 2
        ),
        "edit_distance": round(statistics.fmean(map(_edit_distance, pairs)), 4),
    }


def _edit_distance(pair: EncodedPair) -> float:
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_distance(pair.chosen.tolist(), pair.rejected.tolist())


def unique_tokens(pairs: Sequence[EncodedPair]) -> int:
    """Return the tokens that any trainer must compute: of each pair what is shared once, and both tails."""
    return sum(len(pair.prompt) + len(pair.chosen) + len(pair.rejected) - pair.common for pair in pairs)


def distinct_tokens(pairs: Sequence[EncodedPair]) -> int:
    """Return the tokens that any trainer must compute for a batch: distinct beginnings of its texts."""
    ids = (np.concatenate([pair.prompt, side]) for pair in pairs for side in (pair.chosen, pair.rejected))
    texts = [Text(text, 1) for _, text in sorted({sort_key(text): text for text in ids}.items())]
    return trie_tokens(texts, shared_lengths(texts))


class Contestant:
    """Step one trainer by hand.

    Args:
        name: ``ours``, ``question`` (as ours, and pairs share a question's prompt and chosen answer), ``sdpa`` (ours,
            never with FlexAttention), ``dense`` or ``trl``.
        pairs: All pairs of the measurement.
        vocabulary: Rows of the embedding.
        device: ``cpu`` or ``cuda``.
        folder: For the trainer's files.
        loss: One of ``LOSSES``.
        config: Of the model; None for a GPT-NeoX of Pythia's smallest shape.
    """

    def __init__(
        self,
        name: str,
        pairs: Sequence[EncodedPair],
        vocabulary: int,
        device: str,
        folder: Path,
        loss: str = "dpo",
        config: PreTrainedConfig | None = None,
    ) -> None:
        torch.manual_seed(0)
        self._pairs = [_within(pair, vocabulary) for pair in pairs]
        self._half = device == "cuda"
        self._clock = clock_of(device)
        model = AutoModelForCausalLM.from_config(config or _model_config(vocabulary)).to(device)
        arguments = {
            "learning_rate": 1e-5,
            "max_steps": 1000,
            "per_device_train_batch_size": len(pairs),
            "use_cpu": device == "cpu",
            "gradient_checkpointing": False,
        }
        self._close: Callable[[], object] = lambda: None
        self.flex = False
        if name == "trl":
            tokenizer = _padding_tokenizer()
            self.trainer: Any = trl_peer(
                loss, model, tokenizer, self._pairs, folder, beta=BETA, bf16=self._half, **arguments
            )
            self._items: list[Any] = [self.trainer.train_dataset[index] for index in range(len(pairs))]
        else:
            context = scoring(model, share=name != "dense")
            scorer = context.__enter__()
            self.flex = scorer.flex
            if name == "sdpa":
                scorer = replace(scorer, flex=False)
            self._close = lambda: context.__exit__(None, None, None)
            autocast = torch.bfloat16 if self._half else None
            reference = score_pairs(scorer, model, self._pairs, row_tokens=4096, autocast=autocast)
            scored = ScoredPairs(self._pairs, reference)
            own = {"beta": BETA} if loss == "dpo" else {}
            config = TrainingConfig.model_validate({"loss": loss, "row_tokens": 2**20} | own)
            self.trainer = PairTrainer(
                model,
                TrainingArguments(output_dir=str(folder), report_to="none", disable_tqdm=True, **arguments),
                config=config,
                scorer=scorer,
                train_pairs=scored,
                eval_pairs=None,
                autocast=autocast,
                callbacks=[],
            )
            if name != "question":
                self.trainer.data_collator = replace(self.trainer.data_collator, layout=separate_layout)
            self._items = [scored[index] for index in range(len(pairs))]
        self.trainer.create_optimizer()
        self.trainer.current_gradient_accumulation_steps = 1
        self._model = model

    def step(self, indices: Sequence[int]) -> tuple[float, float]:
        """Take one optimiser step; returns the seconds and the loss."""
        items = [self._items[index] for index in indices]
        started = self._clock()
        batch = self.trainer.data_collator(items)
        loss = self.trainer.training_step(self._model, batch, len(items))
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self.trainer.optimizer.step()
        self._model.zero_grad(set_to_none=True)
        if self._half:
            torch.cuda.synchronize()
        return self._clock() - started, float(loss)

    def computed(self, indices: Sequence[int]) -> int:
        """Return the tokens of our forward pass over these pairs."""
        batch = self.trainer.data_collator([self._items[index] for index in indices])
        return sum(part.layout.input.computed for part in batch)

    def close(self) -> None:
        """Leave the model as it was."""
        self._close()


def clock_of(device: str) -> Callable[[], float]:
    """Return the processor's time for a single thread on a CPU, or else the clock."""
    return time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def measure(
    form: str, arguments: argparse.Namespace, vocabulary: int, pairs: list[EncodedPair]
) -> dict[str, dict[str, Any]]:
    """Time all contestants of every loss in turns, and their memory each alone; returns what was found by loss."""
    size, losses = arguments.batch_size, arguments.loss
    order, _ = question_order(question_members(pairs), size, "benchmark")
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    taking = [(loss, name) for loss in losses for name in CONTESTANTS]
    turns = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        contestants = {
            (loss, name): Contestant(name, pairs, vocabulary, arguments.device, Path(folder), loss)
            for loss, name in taking
        }
        for contestant in contestants.values():
            contestant.step(batches[0])  # warm up
        steps: dict[tuple[str, str], list[tuple[float, float]]] = {each: [] for each in taking}
        for turn in range(arguments.rounds):
            for each in turns.sample(taking, len(taking)):
                steps[each].append(contestants[each].step(batches[turn % len(batches)]))
        computed = {
            name: sum(contestants[losses[0], name].computed(batch) for batch in batches)
            for name in ("ours", "question")
        }
        for contestant in contestants.values():
            contestant.close()
    seconds = {each: np.array([taken for taken, _ in steps[each]]) for each in taking}
    ratios = {(loss, name): seconds[loss, name] / seconds[loss, "ours"] for loss in losses for name in ("trl", "dense")}
    distinct = sum(distinct_tokens([pairs[index] for index in batch]) for batch in batches)
    return {
        loss: {
            "shapes": shapes(pairs),
            "pairs_per_second": {name: round(size / float(np.median(seconds[loss, name])), 3) for name in CONTESTANTS},
            "ratio": _middle(np.minimum(ratios[loss, "trl"], ratios[loss, "dense"])),
            "vs_trl": _middle(ratios[loss, "trl"]),
            "vs_dense": _middle(ratios[loss, "dense"]),
            **(
                {"over_dpo": {name: _middle(ratios[loss, name] / ratios["dpo", name]) for name in ("trl", "dense")}}
                if "dpo" in losses and loss != "dpo"
                else {}
            ),
            "question_vs_ours": _middle(seconds[loss, "ours"] / seconds[loss, "question"]),
            "tokens_over_unique": round(computed["ours"] / unique_tokens(pairs), 3),
            "question_tokens_over_unique": round(computed["question"] / distinct, 3),
            "packed_tokens_over_unique": round(computed["ours"] / distinct, 3),
            "largest_loss_difference": max(
                abs(ours - other)
                for name in ("question", "dense", *(("trl",) if loss in SAME_IN_TRL else ()))
                for (_, ours), (_, other) in zip(steps[loss, "ours"], steps[loss, name], strict=True)
            ),
            "peak_memory_mib": {name: _peak_of(form, name, loss, arguments, vocabulary) for name in arguments.memory},
        }
        for loss in losses
    }


def _middle(values: Any) -> float:
    return round(float(np.median(values)), 3)


def _peak_of(form: str, name: str, loss: str, arguments: argparse.Namespace, vocabulary: int) -> float:
    """Peak MiB of a step in a process of its own; on a CPU of the whole process, libraries included."""
    command = [sys.executable, "-m", "benchmarks.training", "--forms", form, "--memory-of", name]
    command += ["--vocabulary", str(vocabulary), "--device", arguments.device, "--pairs", str(arguments.pairs)]
    command += ["--batch-size", str(arguments.batch_size), "--loss", loss]
    if arguments.data_root and arguments.tokenizer:
        command += ["--data-root", str(arguments.data_root), "--tokenizer", str(arguments.tokenizer)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return float(found.stdout.splitlines()[-1])


def _measure_memory(form: str, arguments: argparse.Namespace, vocabulary: int, pairs: list[EncodedPair]) -> float:
    longest = sorted(range(len(pairs)), key=lambda index: -pairs[index].length)[: arguments.batch_size]
    chosen = [pairs[index] for index in longest]
    with tempfile.TemporaryDirectory() as folder:
        contestant = Contestant(
            arguments.memory_of, chosen, vocabulary, arguments.device, Path(folder), arguments.loss[0]
        )
        contestant.step(range(len(chosen)))  # the optimiser's state is there from the first step on
        forget_peak(arguments.device)
        contestant.step(range(len(chosen)))
        return peak(arguments.device) / 2**20


def _within(pair: EncodedPair, vocabulary: int) -> EncodedPair:
    """The pair with ids below the size of the vocabulary; the lengths, and what is shared, stay."""
    return EncodedPair(pair.prompt % vocabulary, pair.chosen % vocabulary, pair.rejected % vocabulary)


def _model_config(vocabulary: int) -> GPTNeoXConfig:
    return GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=6,
        num_attention_heads=8,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=0,
    )


def _padding_tokenizer() -> PreTrainedTokenizerFast:
    """TRL wants a tokenizer for its padding token alone."""
    model = WordLevel({"<pad>": 0}, unk_token="<pad>")  # noqa: S106
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), pad_token="<pad>", eos_token="<pad>")  # noqa: S106


def main() -> None:
    """Print the measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="offline mirror with openai/gsm8k and allenai/ai2_arc")
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer, such as Pythia's")
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[4096, 50304], help="sizes of the head")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--loss", nargs="+", choices=LOSSES, default=["dpo"], help="losses, in the same rounds")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--memory", nargs="*", choices=CONTESTANTS, default=CONTESTANTS, help="whose peak to measure")
    parser.add_argument("--memory-of", choices=CONTESTANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer) if arguments.tokenizer else None
    pairs = {form: make_pairs(form, arguments.pairs, arguments.data_root, tokenizer) for form in arguments.forms}
    if arguments.memory_of:
        form = arguments.forms[0]
        print(_measure_memory(form, arguments, arguments.vocabulary[0], pairs[form]))
        return
    found = {
        str(size): {form: measure(form, arguments, size, pairs[form]) for form in arguments.forms}
        for size in arguments.vocabulary
    }

    def worst(loss: str, key: str, pick: Callable[[list[float]], float]) -> dict[str, float]:
        return {form: pick([by_form[form][loss][key] for by_form in found.values()]) for form in arguments.forms}

    print(
        json.dumps(
            {
                "command": f"python -m benchmarks.training {' '.join(sys.argv[1:])}",
                "date": now()[:10],
                "git_commit": git_commit(),
                "losses": {
                    loss: {
                        "ratios": worst(loss, "ratio", min),
                        "vs_trl": worst(loss, "vs_trl", min),
                        "vs_dense": worst(loss, "vs_dense", min),
                        "question_vs_ours": worst(loss, "question_vs_ours", min),
                        "question_tokens_over_unique": worst(loss, "question_tokens_over_unique", max),
                        "tokens_over_unique": worst(loss, "tokens_over_unique", max),
                    }
                    for loss in arguments.loss
                },
                "vocabularies": found,
                "machine": {
                    "device": torch.cuda.get_device_name() if arguments.device == "cuda" else cpu_name(),
                    "threads": torch.get_num_threads(),
                    "cores": os.cpu_count(),
                    "torch": torch.__version__,
                    "clock": "processor" if clock_of(arguments.device) is time.process_time else "wall",
                    "load": [round(part, 1) for part in os.getloadavg()],
                },
                "batch_size": arguments.batch_size,
                "rounds": arguments.rounds,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
