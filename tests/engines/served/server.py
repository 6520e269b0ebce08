"""An OpenAI-compatible server on loopback that runs a tiny real model, in the ways of the servers that people use."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from smaug_eval.common.embedded import embedded_path


class Server(ThreadingHTTPServer):
    """Serve the embedded model.

    Attributes:
        form: ``lists`` (vLLM, llama-cpp-python), ``objects`` (llama.cpp), ``thinking`` (generations reason, one in 3
            without an end), or how it fails: ``ignores echo``, ``no logprobs``, ``refuses echo`` (with the status
            behind it), ``same`` (the context makes no difference), ``chat only``.
        faults: Statuses to answer with before anything else, in order.
        requests: Bodies received, with the path under ``path``.
        keys: Authorization headers received.
        busiest: Most requests at a time.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, form: str = "lists") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        folder = embedded_path("demo-model")
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.form = form
        self.faults: list[tuple[int, dict[str, str]]] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.lock = threading.Lock()
        self.under_way = self.busiest = 0

    @property
    def base_url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    """Answer one connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.send(200, {"data": [{"id": "demo", "max_model_len": 256}]})

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append({**body, "path": self.path})
            server.keys.add(self.headers.get("Authorization"))
            server.under_way += 1
            server.busiest = max(server.busiest, server.under_way)
            fault = server.faults.pop(0) if server.faults else None
        try:
            if fault is not None:
                self.send(fault[0], {"error": {"message": "not now"}}, fault[1])
            elif self.path.endswith("/chat/completions"):
                self.send(200, self.chat(body))
            elif server.form == "chat only":
                self.send(404, {"error": {"message": "Not Found"}})
            elif body.get("echo") and server.form.startswith("refuses echo"):
                self.send(
                    int(server.form[-3:]) if server.form[-1].isdigit() else 400,
                    {"error": {"message": "Only no echo is supported", "type": "invalid_request_error"}},
                )
            else:
                self.send(200, self.completion(body))
        finally:
            with server.lock:
                server.under_way -= 1

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        """Continue a prompt, and repeat it with its log-probabilities where that is asked."""
        server = self.server
        prompt = body["prompt"]
        ids = prompt if isinstance(prompt, list) else server.tokenizer.encode(prompt)
        written, finish = self.write(ids, body)
        text = server.tokenizer.decode(written)
        for stop in body.get("stop") or ():
            if stop in text:
                text, finish = text[: text.index(stop)], "stop"
        if server.form == "thinking" and not body.get("echo"):
            ended = "" if len(ids) % 3 == 0 else "</think>\n"
            text = f"<think>Question: is it so?\n{ended}{text}"
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
        if body.get("logprobs") and server.form != "no logprobs":
            shown = [*ids, *written] if body.get("echo") and server.form != "ignores echo" else written
            rows = self.rows(ids if len(shown) == len(written) else [], shown)
            choice["logprobs"] = self.in_form(rows)
        if body.get("echo") and server.form != "ignores echo":
            choice["text"] = server.tokenizer.decode(ids) + text
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(written)}
        return {"model": "demo", "choices": [choice], "usage": usage}

    def in_form(self, rows: list[tuple[str, float | None, float]]) -> dict[str, Any]:
        """Lists side by side, or an object for each token."""
        if self.server.form == "objects":
            found = [
                {"token": t, "logprob": own, "top_logprobs": [{"token": "?", "logprob": top}]} for t, own, top in rows
            ]
            return {"content": found}
        tops = [None if own is None else {token: own, "likeliest": top} for token, own, top in rows]
        return {
            "tokens": [token for token, _, _ in rows],
            "token_logprobs": [own for _, own, _ in rows],
            "top_logprobs": tops,
            "text_offset": [0] * len(rows),
        }

    def rows(self, before: list[int], shown: list[int]) -> list[tuple[str, float | None, float]]:
        """Text, log-probability and the likeliest token's log-probability of each shown token."""
        server = self.server
        ids = [*before, *shown]
        with torch.no_grad():
            scores = torch.log_softmax(server.model(input_ids=torch.tensor([ids])).logits[0], -1)
        found = []
        for place in range(len(before), len(ids)):
            text = server.tokenizer.decode([ids[place]])
            if place == 0:
                found.append((text, None, 0.0))
                continue
            row = torch.full_like(scores[0], -5.0) if server.form == "same" else scores[place - 1]
            found.append((text, float(row[ids[place]]), float(row.max())))
        return found

    def write(self, ids: list[int], body: dict[str, Any]) -> tuple[list[int], str]:
        """Continue greedily."""
        server = self.server
        found = server.model.generate(
            torch.tensor([ids]), max_new_tokens=body["max_tokens"], do_sample=False, pad_token_id=0
        )[0, len(ids) :].tolist()
        eos = server.tokenizer.eos_token_id
        return (found[: found.index(eos)], "stop") if eos in found else (found, "length")

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a chat by its last message, or as the tokenizer's template has it where there is one."""
        tokenizer = self.server.tokenizer
        ids = tokenizer.encode(body["messages"][-1]["content"])
        if tokenizer.chat_template:
            ids = tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True, return_dict=False)
        written, finish = self.write(ids, {"max_tokens": body.get("max_tokens", 8)})
        message = {"role": "assistant", "content": self.server.tokenizer.decode(written)}
        return {"model": "demo", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}

    def send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        """Send a JSON response."""
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(form: str = "lists") -> Iterator[Server]:
    """Serve while the context lasts."""
    server = Server(form)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
