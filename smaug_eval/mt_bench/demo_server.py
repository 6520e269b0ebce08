"""The demo's judge behind a real OpenAI-compatible endpoint, which only this machine reaches."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from smaug_eval.mt_bench.budget import roughly_tokens
from smaug_eval.mt_bench.demo import JUDGE_NAME, demo_judgment

HOST = "127.0.0.1"
LONGEST_REQUEST = 1 << 20
PATH = "/v1/chat/completions"


@contextlib.contextmanager
def demo_judge() -> Iterator[str]:
    """Serve the demo's judge while the context lasts; gives its base URL, at a port that was free."""
    server = ThreadingHTTPServer((HOST, 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

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
            judgment = demo_judgment(texts.get("system", ""), texts["user"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self.close_connection = True  # what was not read is not the next request
            self._send(400, _problem(f"not a request for this judge: {error}"))
            return
        self._send(200, _completion(judgment, roughly_tokens("".join(texts.values()))))

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the console clean."""

    def _send(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _completion(text: str, prompt_tokens: int) -> dict[str, Any]:
    return {
        "id": JUDGE_NAME,
        "object": "chat.completion",
        "created": 0,
        "model": JUDGE_NAME,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": roughly_tokens(text),
            "total_tokens": prompt_tokens + roughly_tokens(text),
        },
    }


def _problem(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
