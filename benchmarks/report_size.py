"""Measure the report on a full suite's samples: building, bytes, and Chromium's time to show and search it.

    python -m benchmarks.report_size [--models 3] [--suites v1] [--documents 28659] [--context 400] [--build-only]

Writes the samples of synthetic models, random English words under the leaderboards' task names and in their
proportions, and builds their page in a process of its own. build_s, cpu_s (what it and the processes that it starts
computed in that time: less on a busy machine) and peak_mib (of the largest of these processes) are of that process, the
interpreter's start included. With the extra ``browser`` and
Chromium also: load_s until the load event, first_paint_ms, elements, and search_ms from a key press (of which 40 ms are
waited for the next one) until the list is shown again, for somebody who looks at the page for two seconds first.
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
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from smaug_eval.leaderboard import v2
from smaug_eval.leaderboard.benchmarks import ifeval
from smaug_eval.leaderboard.v1 import MMLU

STAMP = "2026-01-01T00-00-00.000000"
WORDS = (
    "the", "of", "and", "to", "in", "is", "you", "that", "it", "he", "was", "for", "on", "are", "as", "with", "his",
    "they", "at", "be", "this", "have", "from", "or", "one", "had", "by", "word", "see", "number",
)  # fmt: skip
SEARCHES = ("they see", "number", "absent")
RIGHT, KEPT = 0.6, 0.93  # share that the first model has right, and that another answers as it does


class Shape(NamedTuple):
    """Describe a task: its documents in the full suite, choices (none: a generated solution), words of each text.

    ``has_shots`` is false where nothing stands before the question.
    """

    task: str
    metric: str
    documents: int
    choices: int
    question: int
    answer: int
    has_shots: bool = True


V1 = (
    Shape("open_llm_v1_arc_challenge", "acc_norm", 1172, 4, 22, 6),
    Shape("open_llm_v1_hellaswag", "acc_norm", 10042, 4, 40, 25),
    *(Shape(each.name, "acc", 246, 4, 60, 10) for each in MMLU),
    Shape("open_llm_v1_truthfulqa", "mc2", 817, 12, 12, 10),
    Shape("open_llm_v1_winogrande", "acc", 1267, 2, 20, 6),
    Shape("open_llm_v1_gsm8k", "acc", 1319, 0, 45, 90),
)
_V2_TEXTS = {  # choices, words of a question, words of an answer, whether there are solved examples
    "IFEval": (0, 40, 250, False),
    "BBH": (4, 60, 3, True),
    "MATH Lvl 5": (0, 40, 150, True),
    "GPQA": (4, 90, 12, False),
    "MuSR": (3, 800, 4, False),
    "MMLU-Pro": (10, 60, 10, True),
}
V2 = tuple(
    Shape(leaf.name, column.metric, leaf.official_rows or 0, *_V2_TEXTS[column.title])
    for column in v2.SUITE.columns
    for leaf in column.leaves
)
SUITES = {"v1": V1, "v2": V2}


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def _asked(shape: Shape, number: int, context: str) -> str:
    """The beginning of a line as lm-eval writes it, up to what a model made of the document; without the bracket."""
    texts = random.Random(f"{shape.task} {number}")
    question = _text(texts, shape.question)
    choices = [_text(texts, shape.answer) for _ in range(shape.choices)]
    if choices:
        requests: list[tuple[str, Any]] = [(context + question, f" {choice}") for choice in choices]
        target = str(texts.randrange(len(choices)))
    else:
        requests = [(context + question, {"until": [":"]})]
        target = "#### 18"
    shown = {
        "doc_id": number, "doc": {"query": question, "gold": target, "answer": target}, "target": target,
        "arguments": {f"gen_args_{i}": {"arg_0": a, "arg_1": b} for i, (a, b) in enumerate(requests)},
    }  # fmt: skip
    return json.dumps(shown)[:-1]


def _answered(draw: random.Random, shape: Shape, number: int, value: float) -> str:
    """The rest of the line; what the model made of the document depends on ``draw`` alone."""
    if shape.choices:
        responses: list[Any] = [[str(-20 * draw.random()), "False"] for _ in range(shape.choices)]
    else:
        responses = [f"{_text(draw, shape.answer)}\n#### {18 if value else draw.randrange(18)}"]
    metrics = _levels(number, value) if shape.metric == ifeval.STRICT else {shape.metric: value}
    found = {
        "resps": [[each] for each in responses], "filtered_resps": responses, "filter": "none",
        "metrics": list(metrics), "doc_hash": f"{shape.task}{number}", "prompt_hash": "p", "target_hash": "t",
        **metrics,
    }  # fmt: skip
    return f", {json.dumps(found)[1:]}\n"


def _value(draw: random.Random, shape: Shape, is_right: bool, *, is_first: bool) -> float:
    """A document's value: the first model has it right or not, and others mostly answer as it does."""
    value = float(is_right if is_first or draw.random() < KEPT else not is_right)
    return (value + draw.random()) / 2 if shape.metric == "mc2" else value


def _levels(number: int, value: float) -> Mapping[str, Any]:
    """IFEval's levels of a prompt with one to three instructions, of which the last may not be followed."""
    followed = [*[True] * (number % 3), bool(value)]
    return {ifeval.PROMPTS: bool(value), ifeval.INSTRUCTIONS: followed,
            ifeval.LOOSE_PROMPTS: bool(value), ifeval.LOOSE_INSTRUCTIONS: followed}  # fmt: skip


def _results(shape: Shape, values: Sequence[float]) -> Mapping[str, float]:
    """What lm-eval reports of a task."""
    if shape.metric != ifeval.STRICT:
        return {f"{shape.metric},none": sum(values) / len(values)}
    levels = [_levels(number, value) for number, value in enumerate(values)]
    followed = [each for level in levels for each in level[ifeval.INSTRUCTIONS]]
    return {
        f"{ifeval.PROMPTS},none": sum(values) / len(values),
        f"{ifeval.INSTRUCTIONS},none": sum(followed) / len(followed),
    }


def write_models(folder: Path, models: int, documents: int, context: int, shapes: Sequence[Shape] = V1) -> int:
    """Return the results and samples of synthetic models.

    Args:
        folder: A run directory to be.
        models: How many.
        documents: About how many of each, in the full suites' proportions.
        context: Words before every question that has solved examples before it.
        shapes: The tasks.

    Returns:
        The documents of each.
    """
    written, full = 0, full_size(shapes)
    names = ("base", *(f"model-{number}" for number in range(1, models)))
    for shape in shapes:
        count = max(1, round(shape.documents * documents / full))
        written += count
        first = random.Random(shape.task)
        truth = [first.random() < RIGHT for _ in range(count)]
        shots = _text(first, context) + "\n\n" if shape.has_shots else ""
        draws = {model: random.Random(f"{shape.task} {model}") for model in names}
        values = {model: [_value(draws[model], shape, each, is_first=model == "base") for each in truth]
                  for model in names}  # fmt: skip
        places = {model: folder / "eval" / model / "main" / shape.task for model in names}
        for place in places.values():
            place.mkdir(parents=True)
        with ExitStack() as open_files:
            files = {model: open_files.enter_context((place / f"samples_{shape.task}_{STAMP}.jsonl").open("w"))
                     for model, place in places.items()}  # fmt: skip
            for number in range(count):
                asked = _asked(shape, number, shots)
                for model, file in files.items():
                    file.write(asked + _answered(draws[model], shape, number, values[model][number]))
        for model, place in places.items():
            entry = {**_results(shape, values[model]), "sample_len": count}
            results = {
                "results": {shape.task: entry},
                "n-samples": {shape.task: {"original": count, "effective": count}},
                "n-shot": {shape.task: 5}, "versions": {shape.task: 1}, "date": 1.7e9, "model_name": model,
            }  # fmt: skip
            (place / f"results_{STAMP}.json").write_text(json.dumps(results))
    return written


def full_size(shapes: Sequence[Shape]) -> int:
    """Count the documents of tasks in full."""
    return sum(shape.documents for shape in shapes)


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
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=["v1"])
    parser.add_argument("--documents", type=int, help="of each model; all where left out")
    parser.add_argument("--context", type=int, default=400, help="words before every question with solved examples")
    parser.add_argument("--build-only", action="store_true", help="do not open the page in Chromium")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as scratch:
        run, out = Path(scratch, "synthetic"), Path(scratch, "report.html")
        shapes = [shape for name in options.suites for shape in SUITES[name]]
        wanted = options.documents or full_size(shapes)
        documents = write_models(run, options.models, wanted, options.context, shapes)
        logged = sum(path.stat().st_size for path in run.rglob("*.jsonl")) / 1e6
        found: dict[str, float] = {"models": options.models, "documents": documents, "samples_mb": logged}
        found |= build(run, out)
        if chromium and find_spec("playwright") and not options.build_only:
            found |= show(out, chromium)
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))


if __name__ == "__main__":
    main()
