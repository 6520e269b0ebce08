"""Judges as they are: the verb ``mt-bench judge`` against servers that behave as public ones do.

Of each: the exit code, how many requests it got, how many judgments there are, and words that the user reads.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from smaug_eval.cli import app
from smaug_eval.common.errors import SmaugError
from tests.mt_bench import behaviours as b
from tests.mt_bench.conftest import judge_prompt_lines, write_lines

JUDGMENTS = 6
"""Three questions of two turns, of one model."""
KEY = "sk-a-key-that-nobody-may-see"


@dataclass(frozen=True)
class Case:
    """What becomes of six judgments with a judge.

    Attributes:
        behave: The judge.
        exit_code: Of the verb.
        requests: How many the judge got; a pair for at least and at most.
        judged: Judgments that are there.
        words: All of them are printed.
        scores: Of the judgments, where not all are 7.
        set_judge: Further keys of the judge.
    """

    behave: b.Behaviour
    exit_code: int = 0
    requests: int | tuple[int, int] = JUDGMENTS
    judged: int = JUDGMENTS
    words: tuple[str, ...] = ()
    scores: float = 7
    set_judge: tuple[str, ...] = ()


PLAIN = "An error, <unknown>"
FILTERED = "The response was filtered due to the prompt triggering our content management policy: 'temperature'"
REASONED = {"role": "assistant", "content": None, "reasoning_content": "Perhaps [[3]]? It goes on and on"}
THINK = "<think>\nMaybe [[3]]? No.\n</think>\n\nRating: [[9]]"

CASES = {
    # What is answered
    "ok": Case(b.always(b.completion())),
    "parts": Case(b.always(b.completion({"content": [{"type": "text", "text": "Rating: "}, {"text": "[[7]]"}]}))),
    "thinking part": Case(
        b.always(
            b.completion({"content": [{"type": "thinking", "thinking": "[[2]]"}, {"type": "text", "text": "[[7]]"}]})
        )
    ),
    "reasoning apart": Case(b.always(b.completion({"content": "[[7]]", "reasoning_content": "[[2]]?"}))),
    "reasoning of a gateway": Case(b.always(b.completion({"content": "[[7]]", "reasoning": "[[2]]?"}))),
    "think": Case(b.always(b.completion(THINK)), scores=9, words=("from the judge's thinking: 6",)),
    "think, closed only": Case(b.always(b.completion("Maybe [[3]]?\n</think>\n[[9]]")), scores=9),
    "text of a completion": Case(
        b.always((200, b.JSON, json.dumps({"choices": [{"text": b.RATED, "finish_reason": "stop"}]})))
    ),
    "no usage": Case(b.always(b.completion(usage=None))),
    "byte order mark": Case(b.always((200, b.JSON, "\ufeff" + b.completion()[2]))),
    "no content type": Case(b.always((200, {}, b.completion()[2]))),
    "blank lines before": Case(b.always((200, b.JSON, "\n\n  \n" + b.completion()[2]))),
    "stream unasked": Case(b.always(b.stream({"content": "Rating: "}, {"content": "[[7]]"}))),
    "stream with comments": Case(
        b.always(b.stream({"role": "assistant"}, {"content": "[[7]]"}, comment=": PROCESSING\n\n"))
    ),
    "stream with reasoning": Case(b.always(b.stream({"reasoning_content": "[[2]]"}, {"content": "[[7]]"}))),
    "stream asked for": Case(
        lambda number, body: b.stream({"content": b.RATED}) if body.get("stream") else b.refusal(400, PLAIN),
        set_judge=("stream=true",),
    ),
    "streams only": Case(
        lambda number, body: (
            b.stream({"content": b.RATED})
            if body.get("stream")
            else b.refusal(400, "This model only supports streaming, please enable the stream parameter")
        ),
        requests=JUDGMENTS + 1,
        words=("it answers only as a stream",),
    ),
    "cut off": Case(b.always(b.completion("It is good, and so", "length")), scores=-1, words=("cut off",)),
    "filtered with text": Case(
        b.always(b.completion("Fine. [[7]]", "content_filter")), words=("content filter cut off",)
    ),
    # What is worded otherwise, at the price of one request
    "max_completion_tokens": Case(
        b.unless(
            lambda body: "max_tokens" not in body,
            b.refusal(
                400,
                "Unsupported parameter: 'max_tokens' is not supported here. Use 'max_completion_tokens' instead.",
                param="max_tokens",
                code="unsupported_parameter",
            ),
        ),
        requests=JUDGMENTS + 1,
        words=("it takes max_completion_tokens, not max_tokens",),
    ),
    "no temperature": Case(
        b.unless(
            lambda body: "temperature" not in body,
            b.refusal(400, "Unsupported value: 'temperature' does not support 0.0.", param="temperature"),
        ),
        requests=JUDGMENTS + 1,
        words=("it takes no temperature 0", "judged without temperature 0: all 6 answers"),
    ),
    "no temperature, 422": Case(
        b.unless(
            lambda body: "temperature" not in body,
            (422, b.JSON, json.dumps({"detail": [{"loc": ["body", "temperature"], "msg": "Extra inputs"}]})),
        ),
        requests=JUDGMENTS + 1,
        words=("judged without temperature 0",),
    ),
    "no temperature, by a gateway": Case(
        b.unless(
            lambda body: "temperature" not in body,
            b.refusal(400, "litellm.UnsupportedParamsError: openai does not support parameters: ['temperature']"),
        ),
        requests=JUDGMENTS + 1,
        words=("judged without temperature 0",),
    ),
    "no system, by role": Case(
        b.unless(
            lambda body: b.roles(body) == ["user"],
            b.refusal(
                400, "Unsupported value: 'messages[0].role' does not support 'system'.", param="messages[0].role"
            ),
        ),
        requests=JUDGMENTS + 1,
        words=("it takes no system message", "judged without a system message"),
    ),
    "no system, by a template": Case(
        b.unless(
            lambda body: b.roles(body) == ["user"],
            (400, b.JSON, json.dumps({"object": "error", "message": "System role not supported", "code": 400})),
        ),
        requests=JUDGMENTS + 1,
        words=("it takes no system message",),
    ),
    "both": Case(
        b.unless(
            lambda body: "temperature" not in body and "max_tokens" not in body,
            b.refusal(400, "Unknown parameter: 'max_tokens'.", param="max_tokens"),
        ),
        5,
        requests=(2, 8),
        judged=0,
    ),
    # What passes
    "429 once": Case(b.once(b.refusal(429, "slow down", {"Retry-After": "0.05"})), requests=JUDGMENTS + 1),
    "429 until a date": Case(
        b.once(b.refusal(429, "slow down", {"Retry-After": b.in_a_moment()})), requests=JUDGMENTS + 1
    ),
    "429 in milliseconds": Case(b.once(b.refusal(429, "slow", {"retry-after-ms": "50"})), requests=JUDGMENTS + 1),
    "429 in words": Case(b.once(b.refusal(429, "Please try again in 50ms.")), requests=JUDGMENTS + 1),
    "429 at a reset": Case(
        b.once(b.refusal(429, "slow", {"x-ratelimit-reset-requests": "60ms"})), requests=JUDGMENTS + 1
    ),
    "429 in the body": Case(
        b.once((200, b.JSON, json.dumps({"error": {"message": "Rate limited", "code": 429}}))), requests=JUDGMENTS + 1
    ),
    "502 in the body": Case(
        b.once((200, b.JSON, json.dumps({"error": {"message": "Provider died", "code": 502}}))), requests=JUDGMENTS + 1
    ),
    "error in a choice": Case(
        b.once((200, b.JSON, json.dumps({"choices": [{"error": {"code": 502, "message": "x"}, "message": {}}]}))),
        requests=JUDGMENTS + 1,
    ),
    "error in a stream": Case(
        b.once((200, b.SSE, 'data: {"error": {"message": "overloaded", "code": 529}}\n\n')), requests=JUDGMENTS + 1
    ),
    "500 once": Case(b.once((500, {}, "oops")), requests=JUDGMENTS + 1),
    "a page of a proxy once": Case(
        b.once((502, b.HTML, "<html><title>Bad gateway</title></html>")), requests=JUDGMENTS + 1
    ),
    "closed once": Case(b.once((0, {}, "")), requests=JUDGMENTS + 1),
    "empty once": Case(b.once(b.completion("")), requests=JUDGMENTS + 1),
    "half a body once": Case(b.once((200, b.JSON, '{"choices": [')), requests=JUDGMENTS + 1),
    # What never passes
    "401": Case(
        b.always(b.refusal(401, f"Wrong key {KEY}")), 5, 1, 0, ("6 of 6 judgments are missing", "check the key")
    ),
    "403": Case(b.always(b.refusal(403, "Not allowed")), 5, 1, 0, ("check the key",)),
    "404": Case(b.always(b.refusal(404, "The model does not exist")), 5, 1, 0, ("check the model's name",)),
    "405": Case(b.always((405, b.JSON, '{"detail": "Method Not Allowed"}')), 5, 1, 0, ("check the model's name",)),
    "402": Case(
        b.always(b.refusal(402, "Insufficient credits")), 5, 1, 0, ("Insufficient credits", "add to the account")
    ),
    "429 of an empty account": Case(
        b.always(b.refusal(429, "You exceeded your current quota", code="insufficient_quota")),
        5,
        1,
        0,
        ("add to the account",),
    ),
    "400 of an empty account": Case(
        b.always(b.refusal(400, "Your credit balance is too low")), 5, 1, 0, ("add to the account",)
    ),
    "402 in the body": Case(
        b.always((200, b.JSON, json.dumps({"error": {"message": "Insufficient credits", "code": 402}}))),
        5,
        1,
        0,
        ("Insufficient credits", "add to the account"),
    ),
    "a page": Case(
        b.always((200, b.HTML, "<!doctype html><title>Sign in</title>")), 5, (3, 4), 0, ("web page", "--judge-base-url")
    ),
    "404 page": Case(b.always((404, b.HTML, "<html><title>Not found</title></html>")), 5, 1, 0, ("--judge-base-url",)),
    "max_tokens too large": Case(
        b.always(
            b.refusal(
                400,
                "max_tokens is too large: 2048. This model supports at most 1024 completion tokens",
                param="max_tokens",
            )
        ),
        5,
        3,
        0,
        ("max_tokens is too large", "max_tokens=1024"),
    ),
    "no system, not even so": Case(
        b.always(b.refusal(400, "System role not supported")), 5, (3, 4), 0, ("System role not supported",)
    ),
    "400 always": Case(b.always(b.refusal(400, "That is wrong")), 5, 3, 0, ("That is wrong", "refuses every call")),
    "400 with numbers": Case(
        lambda number, body: b.refusal(400, f"request req_{number:08x}f00 failed at {number}"),
        5,
        3,
        0,
        ("refuses every call",),
    ),
    "413": Case(
        b.always((413, b.HTML, "<html>413 Request Entity Too Large</html>")), 5, JUDGMENTS, 0, ("6 x status 413",)
    ),
    "error in the body always": Case(
        b.always((200, b.JSON, json.dumps({"error": {"message": PLAIN, "code": 500}}))), 5, (6, 12), 0, (PLAIN,)
    ),
    "error without a code": Case(
        b.always((200, b.JSON, '{"error": "model not loaded"}')), 5, (6, 12), 0, ("model not loaded",)
    ),
    "not JSON": Case(b.always((200, {}, "hello")), 5, (4, 12), 0, ("not JSON: hello",)),
    "empty always": Case(b.always(b.completion("")), 5, (4, 12), 0, ("the judgment is empty",)),
    "a wait of hours": Case(
        b.always(b.refusal(429, "Daily limit", {"Retry-After": "25920"})), 5, 1, 0, ("7 h 12 min", "longest_wait")
    ),
    "redirect": Case(b.always((301, {"Location": "/elsewhere"}, "")), 5, (1, 4), 0),
    # What is about one prompt
    "filter with the word temperature": Case(
        lambda number, body: (
            b.refusal(400, FILTERED, code="content_filter") if "First about 2?" in b.text_of(body) else b.completion()
        ),
        5,
        JUDGMENTS,
        4,
        ("2 x status 400: The response was filtered", "2 of 6 judgments are missing"),
    ),
    "filter without a code": Case(
        lambda number, body: b.refusal(400, FILTERED) if "First about 2?" in b.text_of(body) else b.completion(),
        5,
        JUDGMENTS,
        4,
        ("2 of 6 judgments are missing",),
    ),
    "filter": Case(
        b.always(b.completion({"content": None}, "content_filter")),
        5,
        JUDGMENTS,
        0,
        ("6 x the content filter stopped",),
    ),
    "refused": Case(
        b.always(b.completion({"content": None, "refusal": "I cannot rate this."})),
        5,
        JUDGMENTS,
        0,
        ("I cannot rate this.",),
    ),
    "thought until its limit": Case(
        b.always(b.completion(REASONED, "length")),
        5,
        JUDGMENTS,
        0,
        ("thought until its limit of 2,048 tokens", "max_tokens=4096"),
    ),
    "thought in its text until its limit": Case(
        b.always(b.completion("<think>Perhaps [[3]]? It goes on", "length")),
        5,
        JUDGMENTS,
        0,
        ("thought until its limit",),
    ),
    "tool call": Case(
        b.always(b.completion({"content": None, "tool_calls": [{"id": "1"}]})), 5, JUDGMENTS, 0, ("called a tool",)
    ),
    "moderation": Case(
        lambda number, body: (
            b.refusal(403, "Your input was flagged") if "First about 2?" in b.text_of(body) else b.completion()
        ),
        5,
        JUDGMENTS,
        4,
        ("Your input was flagged",),
    ),
}


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """Three questions of two turns, and one model's answers."""
    folder = tmp_path / "bench"
    asked = [{"question_id": n, "category": "writing", "turns": [f"First about {n}?", f"Then {n}?"]} for n in (1, 2, 3)]
    write_lines(folder / "question.jsonl", asked)
    write_lines(folder / "judge_prompts.jsonl", judge_prompt_lines())
    answered = [{"question_id": n, "choices": [{"turns": [f"I say {n}.", f"More of {n}."]}]} for n in (1, 2, 3)]
    write_lines(folder / "model_answer" / "one.jsonl", answered)
    return folder


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[b.Behaviour], b.Server]]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    servers: list[b.Server] = []

    def start(behave: b.Behaviour) -> b.Server:
        servers.append(b.Server(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


Serve = Callable[[b.Behaviour], b.Server]


def judged(bench: Path, base_url: str, *set_judge: str, more: tuple[str, ...] = ()) -> tuple[int, str]:
    """Exit code of the verb, and all that it printed."""
    keys = ("backoff=0.001", "attempts=2", "timeout=10", *set_judge)
    options = [part for key in keys for part in ("--set-judge", key)]
    judge = ("--judge-model", "judge-1", "--judge-base-url", base_url)
    result: Result = CliRunner().invoke(
        app,
        ["mt-bench", "judge", str(bench), "--mt-bench-dir", str(bench), *judge, *options, *more],
    )
    if isinstance(result.exception, SmaugError):
        return result.exception.exit_code, " ".join(f"{result.output} {result.exception}".split())
    assert result.exception is None, result.exception
    return result.exit_code, " ".join(result.output.split())


def lines(bench: Path) -> list[dict[str, Any]]:
    file = bench / "model_judgment" / "judge-1_single.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


@pytest.mark.parametrize("name", CASES)
def test_a_behaviour(name: str, bench: Path, serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    case = CASES[name]
    server = serve(case.behave)
    code, said = judged(bench, server.base_url, *case.set_judge)
    said += " ".join(capfd.readouterr().err.split())  # progress and notices
    assert code == case.exit_code, said
    least, most = case.requests if isinstance(case.requests, tuple) else (case.requests, case.requests)
    assert least <= len(server.requests) <= most
    found = lines(bench)
    assert len(found) == case.judged
    assert {line["score"] for line in found} <= {case.scores}
    for words in case.words:
        assert words in said
    assert KEY not in said
    if case.exit_code == 5:  # the same command, with a judge that works, asks only for what is missing
        assert f"{JUDGMENTS - case.judged} of {JUDGMENTS} judgments are missing" in said
        before = len(server.requests)
        server.behave = b.always(b.completion())
        assert judged(bench, server.base_url, *case.set_judge)[0] == 0
        assert len(server.requests) - before == JUDGMENTS - case.judged
        assert len(lines(bench)) == JUDGMENTS


def test_a_refused_parameter_costs_one_call_of_the_budget(bench: Path, serve: Serve) -> None:
    server = serve(CASES["no temperature"].behave)
    assert judged(bench, server.base_url, f"max_calls={JUDGMENTS + 1}")[0] == 0
    assert len(server.requests) == JUDGMENTS + 1


def test_a_budget_of_too_few_calls_leaves_the_rest_missing(bench: Path, serve: Serve) -> None:
    server = serve(b.always(b.completion()))
    code, said = judged(bench, server.base_url, "max_calls=4")
    assert (code, len(server.requests), len(lines(bench))) == (5, 4, 4)
    assert "2 of 6 judgments are left" in said
    assert judged(bench, server.base_url, "max_calls=4")[0] == 0
    assert len(server.requests) == JUDGMENTS


def test_what_is_charged_is_what_the_body_says(bench: Path, serve: Serve) -> None:
    # 5 of 6 judgments cannot be used; each says that it took 10 tokens to write, at 1 each.
    server = serve(lambda number, body: b.completion(b.RATED if number == 3 else {"content": None, "refusal": "No."}))
    prices = ("price_in=0", "price_out=1", f"max_cost={(5 * 10 + 2048) * 1e-6}")
    code, said = judged(bench, server.base_url, *prices)
    assert (code, len(server.requests), len(lines(bench))) == (5, JUDGMENTS, 1)
    assert "5 x the judge refuses: No." in said


def test_a_share_may_be_missing_and_is_recorded(bench: Path, serve: Serve) -> None:
    server = serve(CASES["filter with the word temperature"].behave)
    assert judged(bench, server.base_url, more=("--allow-missing", "0.2"))[0] == 5
    code, said = judged(bench, server.base_url, more=("--allow-missing", "0.34"))
    assert code == 0
    settings = json.loads((bench / "model_judgment" / "judge-1_single.settings.json").read_text())
    assert settings["allow_missing"] == 0.34
    assert [(each["question_id"], each["turn"]) for each in settings["missing"]] == [(2, 1), (2, 2)]
    assert "judgments that are missing, on which no figure rests: 2" in said
    assert " missing one " in said
    found = scored(bench / "model_judgment")
    assert found["one"]["missing"] == found["judgments"]["missing"] == 2
    (reason,) = found["judgments"]["missing_by_reason"]
    assert "content management policy" in reason


def test_what_was_refused_is_asked_for_last(bench: Path, serve: Serve) -> None:
    """A prompt that is always refused does not keep the others from being judged."""
    refused = [f"First about {n}?" for n in (1, 2)]

    def behave(number: int, body: dict[str, Any]) -> b.Answer:
        is_refused = any(b.text_of(body).startswith(words) for words in refused)
        return b.refusal(400, "That is wrong") if is_refused else b.completion()

    server = serve(behave)
    assert judged(bench, server.base_url)[0] == 5
    assert len(lines(bench)) == 0
    code, said = judged(bench, server.base_url)
    assert (code, len(lines(bench))) == (5, 2)
    assert "4 of 6 judgments are missing" in said


def test_an_answer_under_way_is_kept_when_the_judge_is_given_up(bench: Path, serve: Serve) -> None:
    """It is paid for: the refusals of the others stop the judging while one answer is being written."""
    refusals: list[int] = []

    def behave(number: int, body: dict[str, Any]) -> b.Answer:
        if not b.text_of(body).startswith("First about 1?"):
            refusals.append(number)
            return b.refusal(400, "That is wrong")
        if number > 0:
            until = time.monotonic() + 60
            while len(refusals) < 3 and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(0.5)
        return b.completion()

    code, said = judged(bench, serve(behave).base_url, "concurrency=4")
    assert (code, len(lines(bench))) == (5, 2), said
    assert "refuses every call (3 in a row)" in said


def test_effort_further_keys_and_headers_are_sent_and_recorded(
    bench: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM", "red-team-of-seven")
    server = serve(b.always(b.completion()))
    keys = ("reasoning_effort=low", "extra_body.enable_thinking=false", "headers.X-Team=$TEAM", "headers.X-Plain=plain")
    code, said = judged(bench, server.base_url, *keys)
    assert code == 0, said
    assert server.requests[0]["reasoning_effort"] == "low"
    assert server.requests[0]["enable_thinking"] is False
    assert (server.headers[0]["x-team"], server.headers[0]["x-plain"]) == ("red-team-of-seven", "plain")
    assert lines(bench)[0]["smaug"]["replies"][0]["sent"]["enable_thinking"] is False
    assert "judged with reasoning_effort low: all 6 answers" in said
    for file in bench.rglob("*"):
        assert not file.is_file() or "red-team-of-seven" not in file.read_text()


@pytest.mark.parametrize(
    ("url", "path", "key_in"),
    [
        ("{root}/v1/", "/v1/chat/completions", "authorization"),
        ("{root}/v1/chat/completions", "/v1/chat/completions", "authorization"),
        ("{root}/v1?team=red", "/v1/chat/completions?team=red", "authorization"),
        (
            "{root}/openai/deployments/judge-1?api-version=2024-06-01",
            "/openai/deployments/judge-1/chat/completions?api-version=2024-06-01",
            "api-key",
        ),
        (
            "{root}?api-version=2024-06-01",
            "/openai/deployments/judge-1/chat/completions?api-version=2024-06-01",
            "api-key",
        ),
        ("{root}/v1?api-version=2024-06-01", "/v1/chat/completions?api-version=2024-06-01", "api-key"),
    ],
)
def test_addresses(bench: Path, serve: Serve, url: str, path: str, key_in: str) -> None:
    server = serve(b.always(b.completion()))
    assert judged(bench, url.format(root=server.root))[0] == 0
    assert set(server.paths) == {path}
    assert server.headers[0][key_in].endswith(KEY)


def test_azures_version_as_a_key(bench: Path, serve: Serve) -> None:
    server = serve(b.always(b.completion()))
    assert judged(bench, server.root, "api_version=2024-06-01")[0] == 0
    assert set(server.paths) == {"/openai/deployments/judge-1/chat/completions?api-version=2024-06-01"}


@pytest.mark.parametrize(
    ("url", "words"),
    [("localhost:8000/v1", "no http"), ("http://127.0.0.1:1/v1?api_key=abcdefgh", "holds a key (api_key=...)")],
)
def test_addresses_that_cannot_be_are_refused_before_a_dry_run(bench: Path, url: str, words: str) -> None:
    code, said = judged(bench, url, more=("--dry-run",))
    assert code == 2
    assert words in said
    assert "abcdefgh" not in said


def test_pairs_of_a_judge_that_thinks(bench: Path, serve: Serve) -> None:
    """In its thoughts it says A, behind them B of what it is shown first: model_2 and model_1 win a game each."""
    two = (bench / "model_answer" / "one.jsonl").read_text().replace("I say", "You say")
    (bench / "model_answer" / "two.jsonl").write_text(two)
    server = serve(b.always(b.completion("<think>Maybe [[A]]</think>[[B]]")))
    code, said = judged(bench, server.base_url, more=("--mode", "pairwise-all"))
    assert code == 0
    file = bench / "model_judgment" / "judge-1_pair.jsonl"
    first = json.loads(file.read_text().splitlines()[0])
    assert (first["g1_winner"], first["g2_winner"]) == ("model_2", "model_1")
    assert first["smaug"]["raw_winners"] == ["model_1", "model_2"]
    assert "pairs whose outcome FastChat's rule would take from the judge's thinking: 6" in said
    assert "favours the answer shown first in 0.0%, and the one shown second in 100.0%" in said
    assert "its verdicts hang on the order" in said


def test_pairs_without_any_verdict_are_said_to_be_so(bench: Path, serve: Serve) -> None:
    two = (bench / "model_answer" / "one.jsonl").read_text().replace("I say", "You say")
    (bench / "model_answer" / "two.jsonl").write_text(two)
    server = serve(b.always(b.completion('{"winner": "A"}')))
    more = ("--mode", "pairwise-all")
    _, said = judged(bench, server.base_url, more=more)
    assert "judge-1 gave no verdict that can be read in any of 6 pairs" in said
    found = scored(bench / "model_judgment")
    assert (found["one"]["failed"], found["one"]["win_rate_adjusted"]) == (6, None)
    # Read as the set asks for it, without asking the judge again.
    asked = len(server.requests)
    assert judged(bench, server.base_url, "verdict=json", more=more)[0] == 0
    assert len(server.requests) == asked
    assert scored(bench / "model_judgment")["one"]["tie"] == 6  # always the first: a tie in every pair


def scored(folder: Path) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["mt-bench", "score", str(folder), "--json"])
    assert result.exit_code == 0, result.exception
    found: dict[str, Any] = json.loads(result.output)
    return found


def test_the_raw_reading_stands_beside_the_one_of_record(bench: Path, serve: Serve) -> None:
    server = serve(lambda number, body: b.completion(b.RATED if "First about 1?" in b.text_of(body) else THINK))
    assert judged(bench, server.base_url)[0] == 0
    found = scored(bench / "model_judgment")["one"]
    # Question 1 has 7 twice; the other four have 9, and 3 in the thoughts.
    assert found["average"] == pytest.approx((2 * 7 + 4 * 9) / 6)
    assert found["raw"]["average"] == pytest.approx((2 * 7 + 4 * 3) / 6)
    assert found["raw_differences"] == 4
    assert found["strict"]["average"] == pytest.approx((2 * 7 + 4 * 9) / 6)
    # FastChat's own file, which has the 3 on record, says the same.
    file = bench / "model_judgment" / "judge-1_single.jsonl"
    own = [{key: value for key, value in line.items() if key != "smaug"} for line in lines(bench)]
    for line in own:
        line["score"] = 3 if "<think>" in line["judgment"] else line["score"]
    file.write_text("".join(json.dumps(line) + "\n" for line in own))
    again = scored(bench / "model_judgment")["one"]
    assert (again["average"], again["raw"], again["raw_differences"]) == (found["average"], found["raw"], 4)
