"""Check what the script of the demo's base model makes against the embedded files, without training it all again.

    python -m benchmarks.demo_base    # needs the repository's history; minutes

The embedded model was made in two runs: the first part of ``smaug_eval.demo.train_base``, whose result was the embedded
model of :data:`FORMER`, and later the second part. This says whether the script as it is now would do the same:

- the tokenizer, trained again, is the embedded file;
- the plain text is, document by document, what the script of :data:`FORMER` read;
- the second part, done again from the former weights, gives the embedded weights.

The first part itself is not done again; what one of its steps costs on this processor is measured.
What is found goes to benchmarks/results/demo_base.json, which ``python -m benchmarks.demo_search page`` puts into
docs/demo_search.md.
"""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
from datetime import datetime, timezone
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from smaug_eval.common.files import write_json
from smaug_eval.demo import MODEL_DIR
from smaug_eval.demo.train_base import (
    PretrainingPlan,
    batches,
    careless_batches,
    make_tokenizer,
    mean_of_last,
    new_model,
    next_token_loss,
    optimizers,
    save,
    train_on_careless_text,
)
from smaug_eval.demo.world import documents

RESULTS = Path("benchmarks/results/demo_base.json")
FORMER = "5a0ff7e"
"""The last commit whose embedded model had read the plain text alone."""
DIGEST = """
import json, sys
from hashlib import sha256
from itertools import islice
from smaug_eval.demo.world import documents
print(sha256(json.dumps(list(islice(documents(int(sys.argv[1])), int(sys.argv[2])))).encode()).hexdigest())
"""
"""Prints the hash of the first documents of a seed, by whatever world is on the path."""


def documents_read(tokenizer: PreTrainedTokenizerFast, plan: PretrainingPlan) -> int:
    """Return how many documents hold the tokens of the plain text."""
    tokens = count = 0
    texts = documents(plan.seed)
    while tokens < plan.tokens:
        part = list(islice(texts, 64))
        tokens += sum(len(ids) + 1 for ids in tokenizer(part)["input_ids"])
        count += len(part)
    return count


def former_digest(folder: Path, plan: PretrainingPlan, count: int) -> str:
    """Return the hash of the plain text as the former commit, unpacked into ``folder``, makes it."""
    run = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", DIGEST, str(plan.seed), str(count)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip()


def present_digest(plan: PretrainingPlan, count: int) -> str:
    """Return the same hash of the text as it is made now."""
    return sha256(json.dumps(list(islice(documents(plan.seed), count))).encode()).hexdigest()


def continued(former: Path, out: Path, plan: PretrainingPlan) -> float:
    """Do the second part again from a checkpoint, save it, and return its last loss in nats per token."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(former)
    model = LlamaForCausalLM.from_pretrained(former, dtype=torch.float32, attn_implementation="eager")
    losses: list[float] = []
    train_on_careless_text(model, careless_batches(tokenizer, plan), plan, lambda _, loss: losses.append(loss))
    save(model, tokenizer, out)
    return mean_of_last(losses)


def different_weights(one: Path, other: Path) -> dict[str, Any]:
    """Return how many weights of two checkpoints differ, of how many, and the largest difference."""
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    gaps = [(first[name].float() - second[name].float()).abs() for name in first]
    return {
        "different": sum(int((gap > 0).sum()) for gap in gaps),
        "weights": sum(gap.numel() for gap in gaps),
        "largest": max(float(gap.max()) for gap in gaps),
    }


def seconds_of_a_step(tokenizer: PreTrainedTokenizerFast, plan: PretrainingPlan) -> float:
    """Return the processor's time for one step of the first part, after one that is not counted."""
    model = new_model(tokenizer).train()
    both = optimizers(model, plan)
    for batch in islice(batches(tokenizer, documents(plan.seed), plan.batch_tokens), 2):
        began = time.process_time()
        next_token_loss(model, batch.view(-1, plan.row_length(0))).backward()
        for optimizer in both:
            optimizer.step()
    return time.process_time() - began


def main() -> None:
    """Check, write what was found, and print it."""
    torch.set_num_threads(1)
    plan = PretrainingPlan()
    tokenizer = make_tokenizer(plan)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = ["git", "archive", FORMER, "smaug_eval"]
        archive = subprocess.run(command, capture_output=True, check=True).stdout  # noqa: S603 - git alone
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(folder / "former", filter="data")
        former = folder / "former"
        weights = former / "smaug_eval/demo/model"
        tokenizer.save_pretrained(folder / "tokenizer")
        files = ("tokenizer.json", "tokenizer_config.json")
        count = documents_read(tokenizer, plan)
        found: dict[str, Any] = {
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            "machine": platform.machine(),
            "former": FORMER,
            "tokenizer_is_equal": all(
                (folder / "tokenizer" / each).read_bytes() == (MODEL_DIR / each).read_bytes() for each in files
            ),
            "documents": count,
            "text_is_equal": former_digest(former, plan, count) == present_digest(plan, count),
            "last_loss": continued(weights, folder / "second", plan),
            **different_weights(folder / "second", MODEL_DIR),
            "seconds_of_a_step": seconds_of_a_step(tokenizer, plan),
            "steps": plan.steps,
        }
    write_json(RESULTS, found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
