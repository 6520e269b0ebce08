"""Measure the memory of a large training set: built, encoded, scored by the reference, trained on for few steps.

    python -m benchmarks.large_sets [--pairs 100000 1000000] [--phases build encode trial reference]

Writes synthetic pairs (a prompt of some 20 words, completions of some 40, one word differs) and takes each phase in a
process of its own: build makes the pair set of a recipe from a file; encode tokenises it; trial takes two steps with a
one-layer model, whose reference scores the pairs of these steps alone; reference scores all pairs with that model
(which takes a core minutes for a million), and writes and reads the scores. peak_gib is the most that the process held
resident, the interpreter, its libraries and the pages of mapped files included; anonymous_gib leaves these pages, which
the kernel takes back when it needs them, out (sampled every 50 ms).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.memory import forget_peak, peak, status

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
    parser.add_argument("--folder", type=Path, help="where files go (default: a temporary folder)")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phase is not None:
        print(json.dumps(measured(options.phase, options.folder)))
        return
    with contextlib.ExitStack() as still:
        root = options.folder or Path(still.enter_context(tempfile.TemporaryDirectory()))
        for count in options.pairs:
            folder = root / str(count)
            write_pairs(folder, count)
            for phase in options.phases:
                command = [sys.executable, "-m", "benchmarks.large_sets", "--phase", phase, "--folder", str(folder)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own program
                found = json.loads(done.stdout.splitlines()[-1])
                print(json.dumps({"pairs": count, "phase": phase, **found}), flush=True)


def write_pairs(folder: Path, count: int) -> None:
    """Write a file of so many synthetic pairs, and a tiny model with its tokenizer beside it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
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


def measured(phase: str, folder: Path) -> dict[str, Any]:
    """Do one phase in this process, and return what it held and how long it took."""
    work = {"build": _build, "encode": _encode, "trial": _trial, "reference": _reference}[phase]
    _import_everything()
    forget_peak("cpu")
    start = time.monotonic()
    with _anonymous() as most:
        found = work(folder)
    seconds = round(time.monotonic() - start, 1)
    return {"peak_gib": _gib(peak("cpu")), "anonymous_gib": _gib(most()), "seconds": seconds, **found}


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


def _trial(folder: Path) -> dict[str, Any]:
    from smaug_eval.trainers.config import TrainingConfig
    from smaug_eval.trainers.spec import TrainingSpec
    from smaug_eval.trainers.train import train

    result = train(
        TrainingSpec(
            config=TrainingConfig.model_validate({"loss": "dpop", "steps": 2}),
            name="trial",
            model_path=folder / "model",
            dtype="float32",
            train_file=folder / "rows.jsonl",
            eval_file=folder / "few.jsonl",
            out_dir=folder / "trial",
            seed=1,
            model_sha256="tiny",
        ),
        should_stop=lambda: False,
    )
    return {"steps": result.steps}


def _reference(folder: Path) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM

    from smaug_eval.engines.journal import StreamedJournal
    from smaug_eval.prefix.scorer import scoring
    from smaug_eval.trainers.reference import load_reference, save_reference, score_pairs

    pairs = _encoded(folder).train.pairs
    model = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    journal = StreamedJournal(folder / "journal", {"reference": "tiny"})
    with scoring(model) as scorer:
        tokens = score_pairs(scorer, model, pairs, row_tokens=8192, autocast=None, journal=journal, folder=folder)
    journal.close()
    save_reference(tokens, folder / "reference.safetensors")
    read = load_reference(folder / "reference.safetensors")
    if read is None or len(read.sums[0]) != len(pairs):
        raise RuntimeError("the reference cannot be read")
    return {"bytes": (folder / "reference.safetensors").stat().st_size}


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
