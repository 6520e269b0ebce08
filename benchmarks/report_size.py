"""Measure the report on a full suite's samples: building, bytes, and Chromium's time to show and search it.

    python -m benchmarks.report_size [--models 3] [--documents 28659] [--context 400]

Writes the samples of synthetic models, random English words under the leaderboard's task names and in its proportions,
and builds their page in a process of its own. build_s, cpu_s (what it computed in that time: less on a busy machine)
and peak_mib are of that process, the interpreter's start included. With the extra ``browser`` and Chromium also: load_s
until the load event, first_paint_ms, elements, and search_ms from a key press (of which 40 ms are waited for the next
one) until the list is shown again, for somebody who looks at the page for two seconds first.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from smaug_eval.leaderboard.v1 import MMLU

STAMP = "2026-01-01T00-00-00.000000"
WORDS = (
    "the", "of", "and", "to", "in", "is", "you", "that", "it", "he", "was", "for", "on", "are", "as", "with", "his",
    "they", "at", "be", "this", "have", "from", "or", "one", "had", "by", "word", "see", "number",
)  # fmt: skip
SEARCHES = ("they see", "number", "absent")
RIGHT, KEPT = 0.6, 0.93  # share that the first model has right, and that another answers as it does


class Shape(NamedTuple):
    """Describe a task: its documents in the full suite, choices (none: a generated solution), words of each text."""

    task: str
    metric: str
    documents: int
    choices: int
    question: int
    answer: int


SHAPES = (
    Shape("open_llm_v1_arc_challenge", "acc_norm", 1172, 4, 22, 6),
    Shape("open_llm_v1_hellaswag", "acc_norm", 10042, 4, 40, 25),
    *(Shape(each.name, "acc", 246, 4, 60, 10) for each in MMLU),
    Shape("open_llm_v1_truthfulqa", "mc2", 817, 12, 12, 10),
    Shape("open_llm_v1_winogrande", "acc", 1267, 2, 20, 6),
    Shape("open_llm_v1_gsm8k", "acc", 1319, 0, 45, 90),
)
FULL = sum(shape.documents for shape in SHAPES)


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def _sample(draw: random.Random, shape: Shape, number: int, context: str, value: float) -> Mapping[str, Any]:
    """A line as lm-eval writes it; the texts depend on the number alone, what the model made of them on ``draw``."""
    texts = random.Random(f"{shape.task} {number}")
    question = _text(texts, shape.question)
    choices = [_text(texts, shape.answer) for _ in range(shape.choices)]
    if choices:
        requests = [(context + question, f" {choice}") for choice in choices]
        responses: list[Any] = [[str(-20 * draw.random()), "False"] for _ in choices]
        target = str(texts.randrange(len(choices)))
    else:
        requests = [(context + question, {"until": [":"]})]  # type: ignore[list-item]
        target = "#### 18"
        responses = [f"{_text(draw, shape.answer)}\n#### {18 if value else draw.randrange(18)}"]
    return {
        "doc_id": number, "doc": {"query": question, "gold": target, "answer": target}, "target": target,
        "arguments": {f"gen_args_{i}": {"arg_0": a, "arg_1": b} for i, (a, b) in enumerate(requests)},
        "resps": [[each] for each in responses], "filtered_resps": responses, "filter": "none",
        "metrics": [shape.metric], "doc_hash": f"{shape.task}{number}", "prompt_hash": "p", "target_hash": "t",
        shape.metric: value,
    }  # fmt: skip


def write_models(folder: Path, models: int, documents: int, context: int) -> int:
    """Return the results and samples of synthetic models.

    Args:
        folder: A run directory to be.
        models: How many.
        documents: About how many of each, in the full suite's proportions.
        context: Words before every question.

    Returns:
        The documents of each.
    """
    written = 0
    for shape in SHAPES:
        count = max(1, round(shape.documents * documents / FULL))
        written += count
        first = random.Random(shape.task)
        truth = [first.random() < RIGHT for _ in range(count)]
        shots = _text(first, context) + "\n\n"
        for model in ("base", *(f"model-{number}" for number in range(1, models))):
            draw = random.Random(f"{shape.task} {model}")
            values = [float(each if model == "base" or draw.random() < KEPT else not each) for each in truth]
            place = folder / "eval" / model / "main" / shape.task
            place.mkdir(parents=True)
            with (place / f"samples_{shape.task}_{STAMP}.jsonl").open("w") as lines:
                for number, value in enumerate(values):
                    lines.write(json.dumps(_sample(draw, shape, number, shots, value)) + "\n")
            results = {
                "results": {shape.task: {f"{shape.metric},none": sum(values) / count, "sample_len": count}},
                "n-samples": {shape.task: {"original": count, "effective": count}},
                "n-shot": {shape.task: 5}, "versions": {shape.task: 1}, "date": 1.7e9, "model_name": model,
            }  # fmt: skip
            (place / f"results_{STAMP}.json").write_text(json.dumps(results))
    return written


def build(folder: Path, out: Path) -> Mapping[str, float]:
    """Build the page as the command line does."""
    start = time.perf_counter()
    subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "smaug_eval", "report", str(folder), "--out", str(out)], check=True, capture_output=True
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "build_s": time.perf_counter() - start,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss / 1024,
        "page_mb": out.stat().st_size / 1e6,
    }


_SEARCH = """(text) => new Promise((done) => {
  const [field, output] = ["[name=q]", "output"].map((each) => document.querySelector(`#samples ${each}`));
  const start = performance.now();
  new MutationObserver((_, observer) => {
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
  }).observe(output, { childList: true });
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
})"""


def show(page_file: Path, chromium: str) -> Mapping[str, float]:
    """Open the page in headless Chromium and search it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium)
        page = browser.new_page()
        start = time.perf_counter()
        page.goto(page_file.as_uri())
        load = time.perf_counter() - start
        paint = page.evaluate("performance.getEntriesByType('paint')[0].startTime")
        elements = page.evaluate("document.querySelectorAll('*').length")
        page.wait_for_timeout(2000)
        searches = [page.evaluate(_SEARCH, text) for text in SEARCHES]
        browser.close()
    return {"load_s": load, "first_paint_ms": paint, "elements": elements, "search_ms": max(searches)}


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--documents", type=int, default=FULL, help="of each model")
    parser.add_argument("--context", type=int, default=400, help="words before every question")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as scratch:
        run, out = Path(scratch, "synthetic"), Path(scratch, "report.html")
        documents = write_models(run, options.models, options.documents, options.context)
        logged = sum(path.stat().st_size for path in run.rglob("*.jsonl")) / 1e6
        found: dict[str, float] = {"models": options.models, "documents": documents, "samples_mb": logged}
        found |= build(run, out)
        if chromium and find_spec("playwright"):
            found |= show(out, chromium)
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))


if __name__ == "__main__":
    main()
