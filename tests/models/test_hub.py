"""Models on the Hub that cannot be used: told by name from their configuration or listing, before weights are fetched.

The Hub is a server on loopback; its client runs in a process of its own, as it reads its address when it is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

pytestmark = pytest.mark.slow

COMMIT = "a" * 40
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
FILES: dict[str, dict[str, bytes]] = {
    "org/gptq": {
        "config.json": json.dumps(LLAMA | {"quantization_config": {"quant_method": "gptq", "bits": 4}}).encode(),
        "model.safetensors": b"weights",
    },
    "org/vision": {"config.json": b'{"model_type": "qwen2_5_vl"}', "model.safetensors": b"weights"},
    "org/adapter": {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"},
    "org/lora": {
        "adapter_config.json": b'{"peft_type": "LORA", "r": 4, "base_model_name_or_path": "embedded:demo-model"}',
        "adapter_model.safetensors": (8).to_bytes(8, "little") + b"{}      ",
        "adapter_model.bin": b"pickled",
        "training_args.bin": b"pickled",
    },
    "org/pickled-lora": {"adapter_config.json": b"{}", "adapter_model.bin": b"pickled"},
    "org/gguf": {"model-Q4_K_M.gguf": b"weights", "README.md": b"a note"},
    "org/pickled": {"config.json": json.dumps(LLAMA).encode(), "pytorch_model.bin": b"weights"},
    "org/variant": {
        "config.json": json.dumps(LLAMA).encode(),
        "model.fp16.safetensors": b"weights",
        "tokenizer.json": b"{}",
    },
    "org/half": {
        "config.json": json.dumps(LLAMA).encode(),
        "model.safetensors": b"weights",
        "tokenizer.json": b"{}",
    },
}
PROGRAM = """
import json, sys
from smaug_eval.common.errors import SmaugError
from smaug_eval.models.adapted import locate_model
from smaug_eval.models.checkpoint import check_uses, locate
from smaug_eval.models.quantised import Use
for name, use in json.loads(sys.argv[1]):
    try:
        if use == "config only":
            check_uses(name, [])
            continue
        if use == "adapter":
            found = locate_model(name)
            print(json.dumps([name, found.source, found.adapter.name]))
            found = locate_model("embedded:demo-model", adapter=f"{name}@main")
            print(json.dumps([f"{name}@main", found.source, found.adapter.name]))
            continue
        locate(name, uses=[Use(use)])
    except SmaugError as error:
        print(json.dumps([name, error.message, error.fix]))
"""


def plain_sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as its client asks for a model."""

    asked: list[str]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        if path.startswith("api/models/"):
            owner, name, *rest = path.removeprefix("api/models/").split("/")
            files = FILES.get(f"{owner}/{name}")
            if files is None:
                self.send({}, 404, {"X-Error-Code": "RepoNotFound"})
            elif rest[:1] == ["tree"]:
                listed = [
                    {"type": "file", "path": file, "size": len(content), "oid": plain_sha1(content)}
                    for file, content in files.items()
                ]
                self.send(listed)
            else:
                siblings = [{"rfilename": file} for file in files]
                self.send({"id": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings})
            return
        owner, name, _, _, file = path.split("/", 4)
        content = FILES.get(f"{owner}/{name}", {}).get(file)
        if content is None:
            missing = "EntryNotFound" if f"{owner}/{name}" in FILES else "RepoNotFound"
            self.send({}, 404, {"X-Error-Code": missing, "X-Repo-Commit": COMMIT})
            return
        if self.command == "GET":
            self.asked.append(f"{owner}/{name}/{file}")
        self.send(content, headers={"ETag": f'"{plain_sha1(content)}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET  # noqa: N815

    def send(self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def hub() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (Hub,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def told(address: str, home: Path, *wanted: tuple[str, str], offline: bool = False) -> dict[str, tuple[str, str]]:
    environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "01"[offline]}
    environment |= {"HF_HUB_DISABLE_XET": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(wanted)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return {name: (message, fix) for name, message, fix in map(json.loads, done.stdout.splitlines())}


def test_what_is_there_instead_is_named_and_no_weight_fetched(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    address, asked = hub
    wanted = [
        ("org/gptq", "a LoRA training"),
        ("org/vision", "engine torch"),
        ("org/adapter", "engine torch"),
        ("org/gguf", "engine torch"),
        ("org/pickled", "engine torch"),
        ("org/nowhere", "engine torch"),
        ("org/half", "config only"),
    ]
    found = told(address, tmp_path, *wanted, ("org/variant", "engine torch"))
    assert "holds 4-bit GPTQ weights; a LoRA training takes plain ones" in found["org/gptq"][0]
    assert "is a vision-language model (qwen2_5_vl)" in found["org/vision"][0]
    assert "is a PEFT adapter of a base that it does not name, not a model" in found["org/adapter"][0]
    assert "smaug-eval merge org/adapter --out adapter-merged --base BASE" in found["org/adapter"][1]
    assert "holds GGUF files (model-Q4_K_M.gguf)" in found["org/gguf"][0]
    assert "only pickled weights (pytorch_model.bin)" in found["org/pickled"][0]
    assert "hf download org/pickled" in found["org/pickled"][1]
    assert "smaug_eval.models.to_safetensors pickled" in found["org/pickled"][1]
    assert "no such model on the Hub" in found["org/nowhere"][0]
    assert "its weights are in model.fp16.safetensors, which transformers does not read" in found["org/variant"][0]
    fetched = {file for file in asked if not file.startswith("org/variant")}
    assert {file.rpartition("/")[2] for file in fetched} == {"config.json", "adapter_config.json"}

    # As after ``plan``, the cache holds the configuration alone, and now there is no network.
    message, fix = told(address, tmp_path, ("org/half", "engine torch"), offline=True)["org/half"]
    assert "in the local Hub cache, and HF_HUB_OFFLINE is set" in message
    assert "hf download org/half" in fix


def test_an_adapter_of_the_hub_is_a_model(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    """By its own name beside the base that it names, or beside a base; nothing pickled is fetched."""
    address, asked = hub
    found = told(address, tmp_path, ("org/lora", "adapter"), ("org/pickled-lora", "adapter"))
    assert found["org/lora"] == ("org/lora", COMMIT)
    assert found["org/lora@main"] == ("embedded:demo-model", COMMIT)
    assert "its weights are pickled (adapter_model.bin)" in found["org/pickled-lora"][0]
    assert not [file for file in asked if file.endswith(".bin")]
