"""A model behind vLLM's own OpenAI-compatible server, scored as by transformers; needs vLLM (``make test-vllm``)."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lm_eval.api.instance import Instance

pytest.importorskip("vllm", reason="vLLM is not installed here; make test-vllm runs these")

from smaug_eval.common.embedded import embedded_path
from smaug_eval.engines.build import build_engine
from smaug_eval.engines.registry import EngineSpec

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

DEMO = str(embedded_path("demo-model"))
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
STARTS_IN_SECONDS = 400
PAIRS = [("Anna has 3 apples.", " She buys 4 more."), ("One two ", "three"), ("One two", " four")]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded model behind vLLM's server; its base URL."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "template.jinja").write_text(TEMPLATE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", DEMO, "--enforce-eager"]
    command += ["--served-model-name", "demo", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--max-model-len", "256", "--chat-template", str(folder / "template.jinja")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"})
    try:
        end = time.monotonic() + STARTS_IN_SECONDS
        while True:
            running = server.poll() is None and time.monotonic() < end
            assert running, (folder / "log").read_text(errors="replace")[-3000:]
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5, trust_env=False).is_success:
                    break
            time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(60)


def scored(lm: Any) -> list[tuple[float, bool]]:
    return list(lm.loglikelihood([Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(PAIRS)], True))


def written(lm: Any) -> list[str]:
    told = {"until": ["\n"], "max_gen_toks": 12}
    return list(
        lm.generate_until([Instance("generate_until", {}, (pair[0], told), n) for n, pair in enumerate(PAIRS)], True)
    )


def test_vllm_serves_what_transformers_computes(served: str) -> None:
    local: Any = build_engine(EngineSpec("hf", Path(DEMO), "float32", 1, "cpu"))
    for tokenizer in (DEMO, None):
        told = {"base_url": served, "key_env": "NO_SUCH_KEY", "tokenizer": tokenizer}
        lm: Any = build_engine(EngineSpec("api", Path("api:demo"), engine_args=told))
        assert lm.max_length == 254  # the server says 256
        found, expected = scored(lm), scored(local)
        assert [pair[0] for pair in found] == pytest.approx([pair[0] for pair in expected], abs=5e-3)
        assert [pair[1] for pair in found] == [pair[1] for pair in expected]
        assert written(lm) == written(local)
    chat: Any = build_engine(EngineSpec("api", Path("api:demo"), engine_args={"base_url": served, "chat": True}))
    assert written(chat) == written(local)
