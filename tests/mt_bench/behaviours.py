"""How judges' servers behave, as their users report it: what each answers to a request, by name.

A behaviour takes the request's number, from 0, and its body, and gives status, headers and body. A status of 0 closes
the connection. Every one is a form that a public server is known to have; texts and names are made up.
"""

from __future__ import annotations

import datetime
import email.utils
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], str]
Behaviour = Callable[[int, dict[str, Any]], Answer]

JSON = {"Content-Type": "application/json"}
SSE = {"Content-Type": "text/event-stream"}
HTML = {"Content-Type": "text/html"}
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
RATED = "Well done. Rating: [[7]]"


def completion(message: Any = RATED, finish: str | None = "stop", **more: Any) -> Answer:
    """A chat completion with a text, or with a message that is given whole."""
    whole = message if isinstance(message, dict) else {"role": "assistant", "content": message}
    choice = {"index": 0, "message": whole, "finish_reason": finish}
    return 200, JSON, json.dumps({"id": "x", "model": "served", "choices": [choice], "usage": USAGE, **more})


def refusal(status: int, message: str, headers: dict[str, str] | None = None, **error: Any) -> Answer:
    """OpenAI's form of an error."""
    known = {"message": message, "type": "invalid_request_error", "param": None, "code": None, **error}
    return status, {**JSON, **(headers or {})}, json.dumps({"error": known})


def always(answer: Answer) -> Behaviour:
    return lambda number, body: answer


def once(answer: Answer, then: Answer | None = None) -> Behaviour:
    """A fault of the first request alone."""
    return lambda number, body: answer if number == 0 else then or completion()


def unless(accepted: Callable[[dict[str, Any]], bool], answer: Answer) -> Behaviour:
    """A refusal of requests that are not as the server wants them."""
    return lambda number, body: completion() if accepted(body) else answer


def roles(body: dict[str, Any]) -> list[str]:
    return [message["role"] for message in body["messages"]]


def stream(*deltas: dict[str, Any], usage: bool = True, comment: str = "") -> Answer:
    """Server-sent events."""
    chunks = [{"model": "served", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"model": "served", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage:
        chunks.append({"model": "served", "choices": [], "usage": USAGE})
    events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return 200, SSE, comment + "".join(events) + "data: [DONE]\n\n"


def in_a_moment() -> str:
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)
    return email.utils.format_datetime(moment, usegmt=True)


def text_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


class Server:
    """A server on this machine with one behaviour; remembers what it was asked."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        server, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(server.requests)
                    server.requests.append(body)
                    server.paths.append(self.path)
                    server.headers.append({name.lower(): value for name, value in self.headers.items()})
                    server.times.append(time.monotonic())
                status, headers, text = server.behave(number, body)
                if not status:
                    self.close_connection = True
                    return
                content = text.encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.base_url = f"{self.root}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
