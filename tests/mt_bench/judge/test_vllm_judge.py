"""A model behind vLLM's own OpenAI-compatible server as judge; needs vLLM (``make test-vllm``)."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here; make test-vllm runs these")

from smaug_eval.common.embedded import embedded_path
from smaug_eval.runs.mt_bench import judge_mt_bench, score_mt_bench

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
STARTS_IN_SECONDS = 240
JUDGED = 5  # questions


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded model behind vLLM's server; its base URL."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "template.jinja").write_text(TEMPLATE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(embedded_path("demo-model"))]
    command += ["--served-model-name", "tiny-judge", "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--dtype", "float32", "--max-model-len", "512", "--chat-template", str(folder / "template.jinja")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"})
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", server, folder / "log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(60)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + STARTS_IN_SECONDS
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text(errors="replace")[-3000:]
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5, trust_env=False).is_success:
                return
        time.sleep(1)
    raise AssertionError(log.read_text(errors="replace")[-3000:])


def first(file: Path, count: int) -> Path:
    """A file of a file's first lines."""
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:count]))
    return file


def test_every_answer_is_judged_once(served: str, question_folder: Path, answer_files: list[Path]) -> None:
    first(question_folder / "question.jsonl", JUDGED)
    files = [first(file, JUDGED) for file in answer_files]
    settings = {"base_url": served, "model": "tiny-judge", "key_env": "NO_SUCH_KEY", "max_tokens": 48}
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
