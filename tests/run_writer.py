"""Writers for files as a run leaves them: lm-eval 0.4.13's results and samples, training logs, a manifest."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.reports import build_report

STAMP = "2026-11-22T13-43-28.721867"


def lm_eval_results(
    scores: Mapping[str, float],
    *,
    metric: str = "acc",
    n: int = 100,
    available: int | None = None,
    model_name: str = "org/model",
    date: float = 1.7e9,
    hashes: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What lm-eval writes for tasks scored by a mean of zeros and ones; scores lie in [0, 1]."""
    stderr = {task: math.sqrt(score * (1 - score) / (n - 1)) for task, score in scores.items()}
    return {
        "results": {
            task: {
                "name": task,
                "alias": task,
                "sample_len": n,
                f"{metric},none": score,
                f"{metric}_stderr,none": stderr[task],
            }
            for task, score in scores.items()
        },
        "group_subtasks": {},
        "versions": dict.fromkeys(scores, 1.0),
        "n-shot": dict.fromkeys(scores, 5),
        "n-samples": {task: {"original": available or n, "effective": n} for task in scores},
        "config": {"model": "hf", "model_args": {"pretrained": model_name}, "limit": None, "random_seed": 0},
        "date": date,
        "lm_eval_version": "0.4.13",
        "transformers_version": "5.19.0",
        "model_name": model_name,
        **({"task_hashes": dict(hashes)} if hashes else {}),
    }


class RunWriter:
    """Writes a run directory piece by piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def manifest(self, **content: Any) -> RunWriter:
        """manifest.json."""
        (self.path / "manifest.json").write_text(json.dumps({"name": self.path.name, **content}))
        return self

    def training(
        self,
        name: str,
        curves: Mapping[str, Sequence[tuple[int, float, float]]],
        summary: Mapping[str, Any] | None = None,
    ) -> RunWriter:
        """A log with (step, chosen, rejected) per split, and a summary unless it is None."""
        folder = self.path / "train" / name
        folder.mkdir(parents=True)
        with (folder / "log.jsonl").open("w") as log:
            for split, points in curves.items():
                for step, chosen, rejected in points:
                    row = {"split": split, "step": step, "loss": 0.5}
                    log.write(json.dumps(row | {"log_ratios/chosen": chosen, "log_ratios/rejected": rejected}) + "\n")
        if summary is not None:
            (folder / "summary.json").write_text(json.dumps({"name": name, **summary}))
        return self

    def evaluation(
        self,
        model: str,
        scores: Mapping[str, float],
        *,
        evaluation: str = "main",
        samples: Sequence[Mapping[str, Any]] = (),
        stamp: str = STAMP,
        **options: Any,
    ) -> RunWriter:
        """One results file per task, and the same samples for each where any are given."""
        for task, score in scores.items():
            folder = self.path / "eval" / model / evaluation / task
            folder.mkdir(parents=True, exist_ok=True)
            results = lm_eval_results({task: score}, **options)
            (folder / f"results_{stamp}.json").write_text(json.dumps(results))
            if samples:
                lines = "".join(json.dumps(sample) + "\n" for sample in samples)
                (folder / f"samples_{task}_{stamp}.jsonl").write_text(lines)
        return self

    @staticmethod
    def samples(
        values: Sequence[float], metric: str = "acc_norm", *, prompt: str = "p", first: int = 0
    ) -> list[dict[str, Any]]:
        """lm-eval's samples of documents ``first``, ``first + 1``, ...; the prompts' hashes begin with ``prompt``."""
        return [
            {
                "doc_id": number, "doc": {}, "target": "0", "arguments": {"gen_args_0": {"arg_0": "q", "arg_1": " a"}},
                "resps": [[[-1.0, False]]], "filtered_resps": [["-1.0", "False"]], "filter": "none",
                "metrics": [metric], "doc_hash": f"d{number}", "prompt_hash": f"{prompt}{number}",
                "target_hash": f"t{number}", metric: value,
            }
            for number, value in enumerate(values, first)
        ]  # fmt: skip


class Page(HTMLParser):
    """A built page taken apart: its elements with attributes, its text, and the cells of its tables.

    What stands in a ``<template>`` is no part of a page until a script takes it out, and is left out.

    Attributes:
        elements: (tag, attributes) in order.
        text: All text but styles and scripts, white space collapsed.
        rows: Per table row the texts of its cells, white space collapsed.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self._parts: list[str] = []
        self._cell: list[str] | None = None
        self._is_hidden = False
        self._in_template = False
        self.feed(html)
        self.text = " ".join("".join(self._parts).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._in_template = self._in_template or tag == "template"
        if self._in_template:
            return
        self.elements.append((tag, dict(attributes)))
        self._is_hidden = tag in {"style", "script"}
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if self._in_template:
            self._in_template = tag != "template"
            return
        self._is_hidden = False
        if tag in {"td", "th"} and self._cell is not None:
            self.rows[-1].append(" ".join("".join(self._cell).split()))
            self._cell = None

    def handle_data(self, data: str) -> None:
        if not self._is_hidden and not self._in_template:
            self._parts.append(data)
            if self._cell is not None:
                self._cell.append(data)

    def row(self, *first: str) -> list[str]:
        """The first table row that begins with these cells."""
        return next(row for row in self.rows if row[: len(first)] == list(first))


@pytest.fixture(scope="session")
def run_writer() -> type[RunWriter]:
    """What writes run directories, for fixtures that outlive a test."""
    return RunWriter


@pytest.fixture
def run(tmp_path: Path) -> RunWriter:
    """An empty run directory called "study"."""
    return RunWriter(tmp_path / "study")


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[[str], RunWriter]:
    """Further run directories, by name."""
    return lambda name: RunWriter(tmp_path / name)


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., Page]:
    """Builds the report of some paths and takes it apart."""

    def build(*paths: Path, **options: Any) -> Page:
        out = build_report(paths, tmp_path / "out" / "report.html", **options)
        return Page(out.read_text(encoding="utf-8"))

    return build
