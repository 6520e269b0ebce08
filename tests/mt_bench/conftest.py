"""FastChat's own judging code as an oracle, a judge that misbehaves on demand, and a question set to ask it about."""

from __future__ import annotations

import hashlib
import itertools
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# FastChat's code imports a client of one company that nothing here calls.
sys.modules.setdefault("anthropic", ModuleType("anthropic"))


class FaultyJudge:
    """An OpenAI-compatible judge on this machine that does what ``behave`` says of each request.

    ``behave`` gets the request's number, from 0, and its body, and returns None for an answer or one of the faults.
    """

    def __init__(self, behave: Callable[[int, dict[str, Any]], str | None]) -> None:
        self.behave = behave
        self.slowness = 0.0
        self.retry_after = "0.05"
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.keys: set[str | None] = set()
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()
        self.release = threading.Event()
        judge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with judge.lock:
                    number = len(judge.requests)
                    judge.requests.append(body)
                    judge.times.append(time.monotonic())
                    judge.keys.add(self.headers.get("Authorization"))
                    judge.under_way += 1
                    judge.most_under_way = max(judge.most_under_way, judge.under_way)
                try:
                    time.sleep(judge.slowness)
                    judge.respond(self, judge.behave(number, body), body)
                finally:
                    with judge.lock:
                        judge.under_way -= 1

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that is gone

        self.server = Server(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()

    @staticmethod
    def judgment(body: dict[str, Any]) -> str:
        """What it says to a prompt: a score from 1 to 10 that depends on all of the prompt."""
        digest = hashlib.sha256(body["messages"][-1]["content"].encode()).digest()
        return f"All considered, [[{1 + digest[0] % 10}]] and [[{'ABC'[digest[1] % 3]}]]"

    def respond(self, handler: BaseHTTPRequestHandler, fault: str | None, body: dict[str, Any]) -> None:
        message: Any = {"role": "assistant", "content": self.judgment(body)}
        choices: Any = [{"index": 0, "message": message, "finish_reason": "stop"}]
        status, headers, text = 200, {"Content-Type": "application/json"}, None
        if fault == "drop":
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
            return
        if fault == "half":
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b'{"choices": [')
            handler.close_connection = True
            return
        if fault == "hang":
            self.release.wait(30)
        if fault == "broken":
            text = '{"choices": [{"mess'
        elif fault == "html":
            headers, text = {"Content-Type": "text/html"}, "<html>Bad gateway, please wait</html>"
        elif fault == "null":
            message["content"] = None
        elif fault == "blank":
            message["content"] = "  \n"
        elif fault == "no choices":
            choices = []
        elif fault == "no verdict":
            message["content"] = "I would rather not say."
        elif fault is not None and fault.partition(" ")[0].isdigit():
            code, _, words = fault.partition(" ")
            status = int(code)
            headers["Retry-After"] = self.retry_after
            text = json.dumps({"error": {"message": words or "no", "type": "e", "param": None, "code": words or None}})
        if text is None:
            usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
            text = json.dumps({"id": "x", "model": "judge-snapshot", "choices": choices, "usage": usage})
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(text.encode())))
        handler.end_headers()
        handler.wfile.write(text.encode())


@pytest.fixture
def faulty_judge() -> Iterator[Callable[..., FaultyJudge]]:
    """Starts judges that misbehave as told; by default they do not."""
    judges: list[FaultyJudge] = []

    def start(behave: Callable[[int, dict[str, Any]], str | None] = lambda number, body: None) -> FaultyJudge:
        judges.append(FaultyJudge(behave))
        return judges[-1]

    yield start
    for judge in judges:
        judge.close()


@pytest.fixture
def question_folder(tmp_path: Path) -> Path:
    """80 questions of two turns in FastChat's layout, every fourth with a reference answer."""
    folder = tmp_path / "questions"
    categories = ("math", "writing", "stem", "roleplay")
    ids = range(1, 81)
    write_lines(
        folder / "question.jsonl",
        [
            {"question_id": n, "category": categories[n % 4], "turns": [f"First about {n}?", f"Then about {n}?"]}
            for n in ids
        ],
    )
    write_lines(folder / "judge_prompts.jsonl", judge_prompt_lines())
    write_lines(
        folder / "reference_answer" / "gpt-4.jsonl",
        [{"question_id": n, "choices": [{"index": 0, "turns": [f"Right {n}.", f"Right too {n}."]}]} for n in ids],
    )
    return folder


@pytest.fixture
def answer_files(tmp_path: Path) -> list[Path]:
    """Answers of the models ``one`` and ``two`` to the 80 questions, as FastChat writes them."""
    files = []
    for model in ("one", "two"):
        files.append(tmp_path / "model_answer" / f"{model}.jsonl")
        lines = [
            {
                "question_id": n,
                "answer_id": f"{model}{n}",
                "model_id": model,
                "choices": [{"index": 0, "turns": [f"{model} says {n}.", f"{model} says more of {n}."]}],
                "tstamp": 1.0,
            }
            for n in range(1, 81)
        ]
        write_lines(files[-1], lines)
    return files


def write_lines(file: Path, lines: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def judge_prompt_lines() -> list[dict[str, Any]]:
    """The eight prompts with the fewest words."""
    lines = []
    for kind, shape, names in (
        ("single", "[[rating]]", ("single-v1", "single-math-v1")),
        ("pairwise", "[[A]]", ("pair-v2", "pair-math-v1")),
    ):
        for name, turn in itertools.product(names, (1, 2)):
            asked = "{question_1} {question_2}" if turn == 2 else "{question}"
            suffix = "_2" if turn == 2 else ""
            sides = (f"{{answer{suffix}}}",) if kind == "single" else (f"{{answer_a{suffix}}}", f"{{answer_b{suffix}}}")
            right = f" {{ref_answer_{turn}}}" if "math" in name else ""
            lines.append(
                {
                    "name": name + ("-multi-turn" if turn == 2 else ""),
                    "type": kind,
                    "system_prompt": "Judge.",
                    "prompt_template": f"{asked}{right} {' '.join(sides)}",
                    "output_format": shape,
                }
            )
    return lines
