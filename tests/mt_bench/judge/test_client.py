"""A judge that fails in every way, over real HTTP: what is asked again, what ends a call, and what ends everything."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import time
from collections.abc import Callable
from typing import Any

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.served.budget import Budget, BudgetSpent, Prices, Tokens, estimate
from smaug_eval.common.served.endpoint import Endpoint, Reply, check_endpoint
from smaug_eval.mt_bench.judge.client import CallFailed, JudgeClient, JudgeRefused, JudgeUnreachable, retry_after

Start = Callable[..., Any]
KEY = "sk-a-key-that-nobody-may-see"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)


def endpoint(base_url: str, **settings: Any) -> Endpoint:
    quick = {"backoff": 0.001, "attempts": 5, "timeout": 5.0, "key_env": "JUDGE_KEY", **settings}
    return Endpoint(model="judge-1", base_url=base_url, **quick)


def ask(there: Endpoint, *prompts: str, budget: Budget | None = None, notices: list[str] | None = None) -> list[Any]:
    """The replies, or what was raised instead."""

    async def work() -> list[Any]:
        said = notices if notices is not None else []
        async with JudgeClient(there, budget or Budget(), said.append) as client:
            return await asyncio.gather(*(client.ask("Judge.", prompt) for prompt in prompts), return_exceptions=True)

    return asyncio.run(work())


def test_what_is_sent_and_what_comes_back(faulty_judge: Start) -> None:
    judge = faulty_judge()
    (reply,) = ask(endpoint(judge.base_url), "Is it good?")
    (request,) = judge.requests
    assert request == {
        "model": "judge-1",
        "messages": [{"role": "system", "content": "Judge."}, {"role": "user", "content": "Is it good?"}],
        "temperature": 0.0,
        "max_tokens": 2048,
    }
    assert judge.keys == {f"Bearer {KEY}"}
    sent = {"temperature": 0.0, "max_tokens": 2048}
    assert reply == Reply(judge.judgment(request), Tokens(100, 10), "stop", "judge-snapshot", sent, attempts=1)


@pytest.mark.parametrize(
    "fault", ["429", "500", "503", "408", "drop", "half", "broken", "html", "null", "blank", "no choices"]
)
def test_a_fault_that_passes_is_asked_again(faulty_judge: Start, fault: str) -> None:
    judge = faulty_judge(lambda number, body: fault if number < 2 else None)
    (reply,) = ask(endpoint(judge.base_url), "?")
    assert isinstance(reply, Reply)
    assert reply.attempts == len(judge.requests) == 3


def test_a_judge_that_hangs_is_asked_again(faulty_judge: Start) -> None:
    judge = faulty_judge(lambda number, body: "hang" if number == 0 else None)
    started = time.monotonic()
    (reply,) = ask(endpoint(judge.base_url, timeout=0.3), "?")
    assert reply.attempts == 2
    assert 0.3 <= time.monotonic() - started < 25  # it hangs for 30


def test_retry_after_is_waited_for_by_all(faulty_judge: Start) -> None:
    judge = faulty_judge(lambda number, body: "429" if number == 0 else None)
    judge.retry_after = "0.4"
    budget, notices = Budget(), []

    async def work() -> None:
        async with JudgeClient(endpoint(judge.base_url), budget, notices.append) as client:
            first = asyncio.create_task(client.ask("", "a"))
            await asyncio.sleep(0.1)
            await asyncio.gather(first, client.ask("", "b"))

    asyncio.run(work())
    assert min(judge.times[1:]) - judge.times[0] >= 0.4
    assert len(judge.requests) == budget.calls == 3


def test_long_waits_are_told(faulty_judge: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = faulty_judge(lambda number, body: "429" if number == 0 else None)
    judge.retry_after = "0.2"
    monkeypatch.setattr("smaug_eval.common.served.client.TOLD_FROM_SECONDS", 0.1)
    notices: list[str] = []
    ask(endpoint(judge.base_url), "?", notices=notices)
    assert notices == ["the judge asks to wait 0 s (status 429)"]


@pytest.mark.parametrize("fault", ["null", "broken", "html"])
def test_an_answer_that_never_makes_sense_fails_this_call_for_good(faulty_judge: Start, fault: str) -> None:
    judge = faulty_judge(lambda number, body: fault)
    (failure,) = ask(endpoint(judge.base_url, attempts=3), "?")
    assert isinstance(failure, CallFailed)
    assert failure.lasting
    assert len(judge.requests) == 3


def test_a_request_that_the_judge_cannot_take_is_not_repeated(faulty_judge: Start) -> None:
    judge = faulty_judge(lambda number, body: "400 the prompt is too long" if "long" in str(body) else None)
    failure, reply = ask(endpoint(judge.base_url), "a long one", "another")
    assert isinstance(failure, CallFailed)
    assert failure.lasting
    assert "the prompt is too long" in failure.reason
    assert isinstance(reply, Reply)
    assert len(judge.requests) == 2


def test_a_judge_that_stopped_answering_ends_everything(faulty_judge: Start) -> None:
    judge = faulty_judge(lambda number, body: "503")
    errors = ask(endpoint(judge.base_url, attempts=4), *"abc")
    assert sorted(type(error).__name__ for error in errors) == ["CallFailed", "CallFailed", "JudgeUnreachable"]
    assert all("4 attempts" in str(error) for error in errors)


def test_a_call_without_luck_fails_alone_while_others_get_answers(faulty_judge: Start) -> None:
    judge = faulty_judge(lambda number, body: "500" if "unlucky" in str(body) else None)
    judge.slowness = 0.02
    failure, *replies = ask(endpoint(judge.base_url, attempts=2), "unlucky", *"abcdef")
    assert isinstance(failure, CallFailed)
    assert not failure.lasting
    assert all(isinstance(reply, Reply) for reply in replies)


def test_nobody_there() -> None:
    errors = ask(endpoint("http://127.0.0.1:9/v1", attempts=2), *"abc")
    assert sum(isinstance(error, JudgeUnreachable) for error in errors) == 1
    assert all("no connection" in str(error) for error in errors)


@pytest.mark.parametrize("status", ["401", "403", "404", "429 insufficient_quota"])
def test_a_refusal_is_not_repeated_and_does_not_show_the_key(faulty_judge: Start, status: str) -> None:
    fault = status if " " in status else f"{status} the key {KEY} is wrong"
    judge = faulty_judge(lambda number, body: fault)
    (error,) = ask(endpoint(judge.base_url), "?")
    assert isinstance(error, JudgeRefused)
    assert KEY not in f"{error} {error.__cause__} {error.__context__ and error.message}"
    assert "what is done is kept" in str(error) or status == "404"
    assert len(judge.requests) == 1


def test_settings_that_newer_models_refuse_are_said_otherwise_and_recorded(faulty_judge: Start) -> None:
    def behave(number: int, body: dict[str, Any]) -> str | None:
        if "max_tokens" in body:
            return "400 Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        if "temperature" in body:
            return "400 Unsupported value: 'temperature' does not support 0 with this model."
        return None

    judge = faulty_judge(behave)
    first, second = ask(endpoint(judge.base_url), "a", "b")
    assert first.sent == second.sent == {"max_completion_tokens": 2048}
    (later,) = ask(endpoint(judge.base_url, concurrency=1), "c")
    assert later.sent == {"max_completion_tokens": 2048}
    assert later.attempts == 1


def test_usage_that_is_not_told_is_guessed_from_the_letters(faulty_judge: Start) -> None:
    judge = faulty_judge()
    judge.judgment = lambda body: "x" * 40
    original = judge.respond

    def without_usage(handler: Any, fault: Any, body: Any) -> None:
        write = handler.wfile.write
        handler.wfile.write = lambda data: write(data.replace(b'"usage"', b'"usual"'))
        original(handler, fault, body)

    judge.respond = without_usage
    (reply,) = ask(endpoint(judge.base_url), "y" * 794)
    assert reply.tokens == Tokens(200, 10)


def test_requests_per_minute_space_the_requests(faulty_judge: Start) -> None:
    judge = faulty_judge()
    ask(endpoint(judge.base_url, requests_per_minute=600), *"abcd")
    gaps = [later - earlier for earlier, later in zip(judge.times, judge.times[1:], strict=False)]
    assert len(gaps) == 3
    assert sum(gaps) >= 0.27  # three times a tenth of a second


def test_half_signs_can_be_sent(faulty_judge: Start) -> None:
    judge = faulty_judge()
    (reply,) = ask(endpoint(judge.base_url), "half a sign: \ud83d")
    assert isinstance(reply, Reply)
    assert judge.requests[0]["messages"][1]["content"] == "half a sign: ?"


def test_the_calls_allowed_are_never_exceeded(faulty_judge: Start) -> None:
    judge = faulty_judge(lambda number, body: "500" if number % 2 else None)
    budget = Budget(max_calls=7)
    results = ask(endpoint(judge.base_url), *(str(n) for n in range(20)), budget=budget)
    assert len(judge.requests) == budget.calls == 7
    assert sum(isinstance(result, BudgetSpent) for result in results) == 16
    assert sum(isinstance(result, Reply) for result in results) == 4


def test_the_cost_allowed_is_never_exceeded_and_used_up(faulty_judge: Start) -> None:
    judge = faulty_judge()
    # A call may write 2,048 tokens at 1 each and writes 10: before the 21st, 200 are spent, and 2,248 might be.
    budget = Budget(max_cost=2_247e-6, prices=Prices(0.0, 1.0))
    results = ask(endpoint(judge.base_url), *(str(n) for n in range(30)), budget=budget)
    answered = sum(isinstance(result, Reply) for result in results)
    assert answered == len(judge.requests) == 20
    assert budget.tokens == Tokens(100 * answered, 10 * answered)
    assert budget.cost == pytest.approx(10e-6 * answered)


def test_a_request_without_answer_may_have_cost_all_of_it(faulty_judge: Start) -> None:
    judge = faulty_judge(lambda number, body: "drop" if number == 0 else None)
    budget = Budget(max_cost=1.0, prices=Prices(0.0, 1.0))
    ask(endpoint(judge.base_url, max_tokens=1000), "?", budget=budget)
    assert budget.tokens.completion == 1000 + 10


def test_an_estimate_by_hand() -> None:
    found = estimate(["a" * 8, "b" * 9], 100, Prices(10.0, 30.0))
    assert found.calls == 2
    assert found.tokens == Tokens(2 + 3, 200)
    assert found.cost == pytest.approx((5 * 10 + 200 * 30) / 1e6)
    assert found.describe() == "2 calls: about 5 tokens to read, at most 200 to write, at most 0.01"
    with pytest.raises(SmaugError, match="prices"):
        Budget(max_cost=1.0)


def test_retry_after_in_both_forms() -> None:
    assert retry_after("2.5") == 2.5
    assert retry_after("-1") == 0
    assert retry_after(None) is retry_after("soon") is retry_after("Sun, 99 Nov") is None
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=30)
    assert retry_after(email.utils.format_datetime(later)) == pytest.approx(30, abs=2)
    assert retry_after("nan") == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [("ftp://x/v1", "no http"), ("127.0.0.1:8000", "no http"), ("https://me:secret@x.org/v1", "user name")],
)
def test_addresses_that_cannot_be(url: str, words: str) -> None:
    with pytest.raises(SmaugError, match=words) as caught:
        check_endpoint(endpoint(url))
    assert "secret" not in str(caught.value)


def test_openai_needs_a_key_and_others_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    assert check_endpoint(endpoint("http://127.0.0.1:1/v1")) == "none"
    with pytest.raises(SmaugError, match="JUDGE_KEY"):
        check_endpoint(Endpoint("gpt-4-0613", key_env="JUDGE_KEY"))
    monkeypatch.setenv("JUDGE_KEY", "two\nlines")
    with pytest.raises(SmaugError, match="signs that no key has"):
        check_endpoint(Endpoint("gpt-4-0613", key_env="JUDGE_KEY"))
