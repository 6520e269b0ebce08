"""Measure the memory of a large training set: built, encoded, scored by the reference, trained on for few steps.

    python -m benchmarks.large_sets [--pairs 100000 1000000] [--phases build encode trial reference] [--scored 20000]
        [--out FILE]

Makes synthetic pairs (a prompt of some 20 words, completions of some 40, one word differs) and takes each phase in a
process of its own: build makes the pair set of a recipe from a file; encode tokenises that file; trial takes two steps
with a one-layer model, whose reference scores the pairs of these steps alone; reference scores the pairs with that
model, and writes and reads the scores. trial and reference do not tokenise again: their pairs are random ids of the
lengths of the others, put into the mapped file that encoding fills.

A core would be busy for a quarter of an hour with the reference of a million pairs, so that the pass is one that
resumes: the scores of all pairs but the longest --scored (0: none) are read from its journal, where they are zeros that
were written beforehand, and these are computed,
with room for the scores of all from the beginning.

peak_gib is the most that the process held resident, the interpreter, its libraries and the pages of mapped files
included; anonymous_gib leaves these pages, which the kernel takes back when it needs them, out (sampled every 50 ms).
With --out what was measured before of other phases and sizes stays in the file.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import cpu_name, forget_peak, peak, status

PHASES = ("build", "encode", "trial", "reference")
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "you",
    "that",
    "it",
    "he",
    "was",
    "for",
    "on",
    "are",
    "as",
    "with",
    "his",
    "they",
    "at",
    "be",
    "this",
    "have",
    "from",
    "or",
    "one",
    "had",
    "by",
]
PROMPT, ANSWER = 20, 40
HELD_OUT = 64
END, UNKNOWN = "<end>", "<unknown>"


def main() -> None:
    """Measure and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[100_000, 1_000_000], help="pairs of each set")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES), help="what to measure")
    parser.add_argument("--scored", type=int, default=20_000, help="pairs that the reference pass computes; 0 for all")
    parser.add_argument("--folder", type=Path, help="where files go (default: a temporary folder)")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phase is not None:
        print(json.dumps(measured(options.phase, options.folder, options.pairs[0], options.scored)))
        return
    with contextlib.ExitStack() as still:
        root = options.folder or Path(still.enter_context(tempfile.TemporaryDirectory()))
        for count in options.pairs:
            folder = root / str(count)
            write_model(folder)
            if {"build", "encode"} & set(options.phases):
                write_pairs(folder, count)
            for phase in options.phases:
                command = [sys.executable, "-m", "benchmarks.large_sets", "--phase", phase, "--folder", str(folder)]
                command += ["--pairs", str(count), "--scored", str(options.scored)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own program
                found = {"pairs": count, "phase": phase, **json.loads(done.stdout.splitlines()[-1])}
                print(json.dumps(found), flush=True)
                if options.out is not None:
                    _keep(options.out, found)


def write_pairs(folder: Path, count: int) -> None:
    """Write a file of so many synthetic pairs, unless it is there."""
    if (folder / "few.jsonl").is_file():
        return
    rng = random.Random(count)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for number in range(count):
            prompt = " ".join([str(number), *rng.choices(WORDS, k=PROMPT)])
            chosen = rng.choices(WORDS, k=rng.randrange(ANSWER // 2, ANSWER + ANSWER // 2))
            rejected = list(chosen)
            rejected[rng.randrange(len(chosen))] = "never"
            row = {"prompt": prompt, "chosen": f" {' '.join(chosen)}", "rejected": f" {' '.join(rejected)}"}
            file.write(f"{json.dumps(row)}\n")
    (folder / "few.jsonl").write_bytes(b"".join(_first_lines(folder / "rows.jsonl", HELD_OUT)))


def write_model(folder: Path) -> None:
    """Write a tiny model with its tokenizer, whose words are those of the pairs."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    digits = {str(digit): place for place, digit in enumerate(range(10), 3)}
    vocabulary = {END: 0, UNKNOWN: 1, "never": 2, **digits}
    vocabulary |= {word: len(vocabulary) + place for place, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(individual_digits=True)]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END).save_pretrained(folder / "model")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = LlamaConfig(vocab_size=len(vocabulary), eos_token_id=0, bos_token_id=None, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder / "model")


def measured(phase: str, folder: Path, count: int, scored: int) -> dict[str, Any]:
    """Do one phase in this process, and return what it held and how long it took."""
    phases: dict[str, Callable[[Path], dict[str, Any]]] = {
        "build": _build,
        "encode": _encode,
        "trial": functools.partial(_trial, count=count),
        "reference": functools.partial(_reference, count=count, scored=scored or count),
    }
    _import_everything()
    forget_peak("cpu")
    start, busy = time.monotonic(), time.process_time()
    with _anonymous() as most:
        found = phases[phase](folder)
    seconds, busy = round(time.monotonic() - start, 1), round(time.process_time() - busy, 1)
    return {
        "peak_gib": _gib(peak("cpu")),
        "anonymous_gib": _gib(most()),
        "seconds": seconds,
        "processor_seconds": busy,
        **found,
    }


def _keep(path: Path, found: Mapping[str, Any]) -> None:
    """Write a phase's result into the file, in the place of an earlier one of the same phase and size."""
    from smaug_eval.common.files import write_json
    from smaug_eval.runs.directory import now
    from smaug_eval.runs.environment import git_commit

    row = {
        **found,
        "command": f"python -m benchmarks.large_sets --pairs {found['pairs']} --phases {found['phase']}",
        "date": now()[:10],
        "git_commit": git_commit(),
        "machine": {
            "device": cpu_name(),
            "cores": os.cpu_count(),
            "memory_gib": _gib(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")),
            "load": round(os.getloadavg()[0], 1),
        },
    }
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    rows = [each for each in rows if (each["pairs"], each["phase"]) != (row["pairs"], row["phase"])] + [row]
    write_json(path, sorted(rows, key=lambda each: (each["pairs"], PHASES.index(each["phase"]))))


def _build(folder: Path) -> dict[str, Any]:
    from smaug_eval.trainers.pairs.build import build_pairs
    from smaug_eval.trainers.pairs.config import RowPairs

    config = RowPairs(source="rows", path=str(folder / "rows.jsonl"))
    stats = build_pairs(config, data_root=None, out_dir=folder / "pairs")
    return {"train": stats.train}


def _encoded(folder: Path) -> Any:
    import datetime

    from transformers import AutoTokenizer

    from smaug_eval.trainers.config import TrainingConfig
    from smaug_eval.trainers.encoded_sets import encode_sets

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    config = TrainingConfig.model_validate({"loss": "dpop"})
    today = datetime.datetime.now(tz=datetime.timezone.utc).date()
    return encode_sets(
        config, tokenizer, folder / "rows.jsonl", folder / "few.jsonl", max_length=1024, date=today, folder=folder
    )


def _encode(folder: Path) -> dict[str, Any]:
    sets = _encoded(folder)
    return {"tokens": sum(2 * len(p.prompt) + len(p.chosen) + len(p.rejected) for p in sets.train.pairs)}


def _trial(folder: Path, *, count: int) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM

    from smaug_eval.prefix.scorer import scoring
    from smaug_eval.trainers.config import TrainingConfig
    from smaug_eval.trainers.reference import score_pairs
    from smaug_eval.trainers.steps import training_arguments
    from smaug_eval.trainers.trainer import PairTrainer, ScoredPairs
    from smaug_eval.trainers.trial import seen_pairs, spread

    pairs = _random_pairs(folder, count)
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    config = TrainingConfig.model_validate({"loss": "dpop", "steps": 2, "warmup_steps": 0})
    arguments = training_arguments(config, folder / "trial", 1)
    seen = seen_pairs(config, arguments, pairs) or list(range(len(pairs)))
    with scoring(model) as scorer:
        few = [pairs[number] for number in seen]
        tokens = score_pairs(scorer, model, few, row_tokens=config.row_tokens, autocast=None, folder=folder)
        trainer = PairTrainer(
            model,
            arguments,
            config=config,
            scorer=scorer,
            train_pairs=ScoredPairs(pairs, spread(tokens, seen, pairs)),
            eval_pairs=None,
            autocast=None,
            callbacks=[],
        )
        trainer.train()
    return {"steps": trainer.state.global_step, "scored": len(seen)}


def _reference(folder: Path, *, count: int, scored: int) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM

    from smaug_eval.engines.journal import StreamedJournal
    from smaug_eval.prefix.scorer import scoring
    from smaug_eval.trainers.log_probs import scoring_batches
    from smaug_eval.trainers.reference import load_reference, save_reference, score_pairs

    pairs = _random_pairs(folder, count)
    model = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    place, scope, row_tokens = folder / "journal", {"reference": "tiny"}, 8192
    shutil.rmtree(place, ignore_errors=True)
    with scoring(model) as scorer:
        batches = scoring_batches(scorer, pairs, row_tokens)
        ends = list(itertools.accumulate(map(len, batches)))
        first = next(number for number, end in enumerate(ends, 1) if end >= scored)
        computed = ends[first - 1]
        earlier = StreamedJournal(place, scope)
        for batch in batches[first:]:
            earlier.add({str(index): [_zeros(pairs[index].chosen), _zeros(pairs[index].rejected)] for index in batch})
        earlier.close()
        del batches, ends
        journal = StreamedJournal(place, scope)
        tokens = score_pairs(scorer, model, pairs, row_tokens=row_tokens, autocast=None, journal=journal, folder=folder)
    journal.close()
    save_reference(tokens, folder / "reference.safetensors")
    read = load_reference(folder / "reference.safetensors")
    if read is None or len(read.sums[0]) != len(pairs) or not np.isfinite(read.sums).all():
        raise RuntimeError("the reference cannot be read")
    size = (folder / "reference.safetensors").stat().st_size
    return {"computed": computed, "read_from_the_journal": len(pairs) - computed, "bytes": size}


def _random_pairs(folder: Path, count: int) -> Any:
    """So many pairs of random ids, in the lengths of those of the file, in a mapped file."""
    from smaug_eval.trainers.encoded_pair import EncodedPair
    from smaug_eval.trainers.pair_store import PairStore

    rng, store = np.random.default_rng(count), PairStore(folder)
    for number in range(count):
        prompt = rng.integers(3, 40, PROMPT + len(str(number)), np.int32)
        chosen = rng.integers(3, 40, rng.integers(ANSWER // 2, ANSWER + ANSWER // 2) + 1, np.int32)
        rejected = chosen.copy()
        rejected[rng.integers(len(chosen) - 1)] = 2
        store.append(EncodedPair(prompt, chosen, rejected))
    return store.read()


def _zeros(tokens: Any) -> str:
    """Log-probabilities of a completion as a journal holds them."""
    return base64.b64encode(np.zeros(len(tokens), "<f4").tobytes()).decode("ascii")


def _first_lines(path: Path, count: int) -> Iterator[bytes]:
    with path.open("rb") as lines:
        yield from (line for line, _ in zip(lines, range(count), strict=False))


def _import_everything() -> None:
    """Load the libraries, which are no part of what a set takes, though of the peak."""
    import smaug_eval.trainers.pairs.build
    import smaug_eval.trainers.train  # noqa: F401


@contextlib.contextmanager
def _anonymous() -> Iterator[Callable[[], int]]:
    """Sample the resident memory of this process that is no file's."""
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.05):
            most = max(most, status("RssAnon"))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: most
    finally:
        done.set()
        thread.join()


def _gib(count: int) -> float:
    return round(count / 2**30, 2)


if __name__ == "__main__":
    main()
