"""A model behind vLLM's own OpenAI-compatible server as judge; needs vLLM (``make test-vllm``)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here; make test-vllm runs these")

from smaug_eval.runs.mt_bench import judge_mt_bench, score_mt_bench

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

JUDGED = 5  # questions


def first(file: Path, count: int) -> Path:
    """A file of a file's first lines."""
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:count]))
    return file


def test_every_answer_is_judged_once(vllm_server: str, question_folder: Path, answer_files: list[Path]) -> None:
    first(question_folder / "question.jsonl", JUDGED)
    files = [first(file, JUDGED) for file in answer_files]
    settings = {"base_url": vllm_server, "model": "tiny-judge", "key_env": "NO_SUCH_KEY", "max_tokens": 48}
    result = judge_mt_bench(files, question_folder.parent, questions=question_folder, references="original", **settings)
    lines = [json.loads(line) for line in result.file.read_text().splitlines()]
    asked = [(line["model"], line["question_id"], line["turn"]) for line in lines]
    assert len(set(asked)) == len(asked) == 2 * 2 * JUDGED
    assert all(line["judgment"].strip() for line in lines)  # a model wrote them
    scores = score_mt_bench([result.file])
    counts = {model: found["n"] + found["failed"] for model, found in scores.items()}
    assert counts == {"one": 2 * JUDGED, "two": 2 * JUDGED}
    again = judge_mt_bench(files, question_folder.parent, questions=question_folder, references="original", **settings)
    assert again.summary is not None
    assert again.file.read_text().splitlines() == result.file.read_text().splitlines()
