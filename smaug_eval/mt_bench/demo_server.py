"""Serve a judging function, such as the demo's rule, as a real OpenAI-compatible endpoint on this machine alone."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from smaug_eval.common.served.budget import roughly_tokens
from smaug_eval.mt_bench.demo import JUDGE_NAME, demo_judgment

HOST = "127.0.0.1"
LONGEST_REQUEST = 1 << 20
PATH = "/v1/chat/completions"


@contextlib.contextmanager
def demo_judge() -> Iterator[str]:
    """Serve the demo's judge while the context lasts; gives its base URL, at a port that was free."""
    with local_judge(demo_judgment, JUDGE_NAME) as url:
        yield url


@contextlib.contextmanager
def local_judge(judge: Callable[[str, str], str], name: str) -> Iterator[str]:
    """Serve a function as a judge while the context lasts; gives its base URL, at a port that was free.

    Args:
        judge: Takes the system message and the user's, and returns the judgment; called from several threads.
        name: What it calls itself.
    """
    server = _Server(judge, name)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, judge: Callable[[str, str], str], name: str) -> None:
        super().__init__((HOST, 0), _Handler)
        self.judge, self.name = judge, name


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        if self.path != PATH:
            self._send(404, _problem(f"there is nothing at {self.path[:80]}"))
            return
        try:
            size = int(self.headers.get("Content-Length", "0"))
            if not 0 < size <= LONGEST_REQUEST:
                raise ValueError(f"a request has 1 to {LONGEST_REQUEST} bytes")
            messages = json.loads(self.rfile.read(size))["messages"]
            texts = {message["role"]: str(message["content"]) for message in messages}
            system, user = texts.get("system", ""), texts["user"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self.close_connection = True  # what was not read is not the next request
            self._send(400, _problem(f"not a request for this judge: {error}"))
            return
        try:
            judgment = self.server.judge(system, user)
            if not isinstance(judgment, str):
                raise TypeError(f"the judgment is no text but {type(judgment).__name__}")
        except Exception as error:
            self._send(400, _problem(f"not a request for this judge: {type(error).__name__}: {error}"))
            return
        self._send(200, _completion(self.server.name, judgment, roughly_tokens("".join(texts.values()))))

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the console clean."""

    def _send(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _completion(name: str, text: str, prompt_tokens: int) -> dict[str, Any]:
    return {
        "id": name,
        "object": "chat.completion",
        "created": 0,
        "model": name,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": roughly_tokens(text),
            "total_tokens": prompt_tokens + roughly_tokens(text),
        },
    }


def _problem(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
