"""A fixture: the embedded model behind vLLM's own OpenAI-compatible server, which takes most of a minute to start."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from smaug_eval.common.embedded import embedded_path

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
STARTS_IN_SECONDS = 400
LENGTH = 512
"""Tokens that the served model reads and writes together."""
NAMES = ("demo", "tiny-judge")


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded model under each of ``NAMES``; the server's base URL."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "template.jinja").write_text(TEMPLATE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(embedded_path("demo-model"))]
    command += ["--served-model-name", *NAMES, "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--dtype", "float32", "--max-model-len", str(LENGTH), "--chat-template", str(folder / "template.jinja")]
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
