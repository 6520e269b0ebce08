"""What refusals of many kinds of servers mean, and how long they ask to wait."""

from __future__ import annotations

import datetime
import email.utils
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.common.served.faults import Kind, problem_of
from smaug_eval.common.served.replies import merged_stream, read_completion, usage_of
from smaug_eval.common.served.waits import asked_wait, duration, retry_after, words


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, error("'messages[0].role' does not support 'system'", param="messages[0].role"), Kind.SYSTEM),
        (400, {"object": "error", "message": "System role not supported", "code": 400}, Kind.SYSTEM),
        (422, {"detail": "Conversation roles must alternate user/assistant"}, Kind.SYSTEM),
        (402, error("Insufficient credits"), Kind.ACCOUNT),
        (429, error("You exceeded your current quota", code="insufficient_quota"), Kind.ACCOUNT),
        (400, error("Your credit balance is too low to access the API"), Kind.ACCOUNT),
        (200, {"code": 1113, "msg": "Your account is in arrears"}, Kind.ACCOUNT),
        (429, error("Request too large for x on tokens per min (TPM): Limit 10, Requested 13"), Kind.TOO_LONG),
        (400, error("max_tokens is too large: 2048. It supports at most 1024 completion tokens"), Kind.MAX_TOKENS),
        (400, error("'max_tokens' or 'max_completion_tokens' is too large: 2048"), Kind.MAX_TOKENS),
        (400, error("The maximum context length is 4096 tokens", code="context_length_exceeded"), Kind.TOO_LONG),
        (413, "<html><title>413 Request Entity Too Large</title></html>", Kind.TOO_LONG),
        (400, error("filtered: max_tokens is too large, and system role", code="content_filter"), Kind.FILTER),
        (403, error("Your input was flagged by moderation"), Kind.FILTER),
        (451, error("no"), Kind.FILTER),
        (401, error("no"), Kind.KEY),
        (403, error("no"), Kind.KEY),
        (400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}], Kind.KEY),
        (404, error("no"), Kind.ADDRESS),
        (403, "<!doctype html><title>Attention required</title>", Kind.ADDRESS),
        (400, error("Invalid model: x"), Kind.ADDRESS),
        (400, error("The model `x` does not exist"), Kind.ADDRESS),
        (200, error("Rate limit exceeded", code=429), Kind.PASSING),
        (200, error("busy", code="429"), Kind.PASSING),
        (200, error("busy", type="overloaded_error"), Kind.PASSING),
        (200, {"error": "model not loaded"}, Kind.PASSING),
        (200, {"errors": [{"code": 502, "message": "x"}], "success": False}, Kind.PASSING),
        (200, {"choices": [{"error": {"code": 502, "message": "x"}}]}, Kind.PASSING),
        (503, {"error": "Model x is currently loading", "estimated_time": 20.0}, Kind.PASSING),
        (500, "", Kind.PASSING),
        (418, "short and stout", Kind.REQUEST),
    ],
)
def test_kinds(status: int, body: Any, kind: Kind) -> None:
    problem = problem_of(status, {}, body if isinstance(body, str) else json.dumps(body))
    assert problem is not None
    assert problem.kind is kind


def test_words_of_an_error_are_kept_whatever_its_form() -> None:
    def said(body: Any, status: int = 400) -> str:
        problem = problem_of(status, {}, body if isinstance(body, str) else json.dumps(body))
        assert problem is not None
        return problem.message

    assert said(error("a b")) == "status 400: a b"
    assert said({"detail": [{"loc": ["body", "x"], "msg": "extra"}, {"loc": [], "msg": "y"}]}) == (
        "status 400: body.x: extra; y"
    )
    assert said("<html><title>Bad gateway</title><p>wait", 502) == "status 502: a web page: Bad gateway"
    raw = {"error": {"message": "Provider returned error", "code": 502, "metadata": {"raw": "upstream died"}}}
    assert said(raw, 200) == "status 502: Provider returned error: upstream died"
    assert said("plain words", 500) == "status 500: plain words"


def test_an_answer_is_no_problem() -> None:
    for body in (
        {"choices": [{"message": {"content": "x"}}]},
        {"choices": [], "error": None},
        {"message": "x", "choices": []},
    ):
        assert problem_of(200, {}, json.dumps(body)) is None


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("Unsupported value: 'temperature' does not support 0.0 with this model.", True),
        ("openai does not support parameters: ['temperature'], for model=x", True),
        ("`temperature` may only be set to 1 when thinking is enabled", True),
        ("temperature is deprecated for this model", True),
        ("Unrecognized request argument supplied: temperature", True),
        ("What is the temperature of not boiling water", False),
        ("Rejected: the text 'the temperature must' was odd", False),
        ("Invalid prompt: what is the temperature?", False),
        ("The temperature outside", False),
    ],
)
def test_a_parameter_is_named_or_only_stands_in_the_text(message: str, named: bool) -> None:
    problem = problem_of(400, {}, json.dumps(error(message)))
    assert problem is not None
    assert problem.names("temperature") is named
    other = problem_of(400, {}, json.dumps(error(message, param="messages")))
    assert other is not None
    assert not other.names("temperature")


def test_waits_in_every_form() -> None:
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=30)
    assert retry_after("1m30.5s") == 90.5
    assert retry_after("500 ms") == 0.5
    assert duration("2 minutes and 5 seconds") == 125
    assert duration("soon") is duration("5") is duration("5 apples") is None
    assert retry_after(soon.isoformat()) == pytest.approx(30, abs=2)
    assert retry_after(email.utils.format_datetime(soon)) == pytest.approx(30, abs=2)
    assert asked_wait({"Retry-After-MS": "1500", "Retry-After": "9"}, None, "") == 1.5
    assert asked_wait({}, None, "Rate limit reached. Please try again in 6m0s. Visit") == 360
    assert asked_wait({}, None, "Please retry after 26 seconds.") == 26
    assert asked_wait({}, None, "try again later") is None
    assert asked_wait({}, {"error": {"details": [{"retryDelay": "34.5s"}]}}, "") == 34.5
    assert asked_wait({}, {"error": "loading", "estimated_time": 20.0}, "") == 20
    moment = str(int((time.time() + 9) * 1000))
    nested = {"error": {"metadata": {"headers": {"X-RateLimit-Reset": moment}}}}
    assert asked_wait({}, nested, "") == pytest.approx(9, abs=2)
    resets = {"x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-requests": "59"}
    assert asked_wait(resets, None, "") is None
    resets |= {"x-ratelimit-reset-tokens": "2m", "x-ratelimit-remaining-tokens": "0"}
    assert asked_wait(resets, None, "") == 120
    assert (words(25_920), words(90), words(600)) == ("7 h 12 min", "90 s", "10 min")


@given(st.text(max_size=80))
def test_any_words_are_a_wait_or_none(text: str) -> None:
    found = retry_after(text)
    assert found is None or found >= 0
    found = asked_wait({"retry-after": text}, {"retry_after": text}, text)
    assert found is None or found >= 0


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["error", "choices", "message", "content", "detail", "errors", "usage", "code", "delta", "text"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_read_without_an_error(content: Any) -> None:
    text = json.dumps(content)
    for status in (200, 400, 500):
        problem_of(status, {}, text)
    read_completion(content, 10)
    usage_of(content, usage_of({}, usage_of(None, read_tokens())))
    merged_stream(f"data: {text}\n\n")


def read_tokens() -> Any:
    from smaug_eval.common.served.budget import Tokens

    return Tokens(1, 2)
