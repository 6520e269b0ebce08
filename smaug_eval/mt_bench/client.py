"""A judge behind an OpenAI-compatible endpoint, asked until it answers, refuses for good, or the budget is spent."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import json
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from smaug_eval.errors import SmaugError
from smaug_eval.mt_bench.budget import Budget, Tokens, roughly_tokens
from smaug_eval.mt_bench.endpoint import NO_KEY, Endpoint, Reply, check_endpoint
from smaug_eval.redaction import MASK, redacted

TEMPERATURE = 0.0
"""FastChat's (chat_completion_openai in common.py)."""
LONGEST_BACKOFF_SECONDS = 60.0
GIVE_UP_AFTER = 3
TOLD_FROM_SECONDS = 10.0
"""Waits that a judge asks for are told to the user from this length."""

_REFUSALS = (401, 403, 404)
_PASSING_STATUSES = (408, 409, 425, 429)
_LONGEST_REASON = 300


class JudgeRefused(SmaugError):
    """The judge will not answer any call: the key, the model or the address is wrong, or the account is empty."""


class JudgeUnreachable(SmaugError):
    """The judge stopped answering altogether."""


class CallFailed(Exception):
    """One call got no usable answer; others may.

    Attributes:
        reason: Why, in words that hold no key.
        lasting: Whether the same call would fail again.
    """

    def __init__(self, reason: str, *, lasting: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting


class _TryAgain(Exception):
    """A fault that may pass."""

    def __init__(self, reason: str, *, wait: float | None = None, lasting: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.lasting = lasting


class JudgeClient:
    """Asks a judge; use it as ``async with``.

    Args:
        endpoint: The judge.
        budget: Counts and limits the calls.
        notice: Receives lines for the user.

    Raises:
        SmaugError: see :func:`check_endpoint`.
    """

    def __init__(self, endpoint: Endpoint, budget: Budget, notice: Callable[[str], None]) -> None:
        self._endpoint, self._budget, self._notice = endpoint, budget, notice
        self._key = check_endpoint(endpoint)
        # Proxies are for what is elsewhere.
        http_client = openai.DefaultAsyncHttpxClient(trust_env=False) if endpoint.is_local else None
        self._client = openai.AsyncOpenAI(
            api_key=self._key,
            base_url=endpoint.base_url,
            timeout=endpoint.timeout,
            max_retries=0,
            http_client=http_client,
        )
        self._sent: dict[str, float] = {"temperature": TEMPERATURE, "max_tokens": endpoint.max_tokens}
        self._pause_until = self._next_turn = 0.0
        self._failed_in_a_row = 0

    async def __aenter__(self) -> JudgeClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.close()

    async def ask(self, system: str, user: str) -> Reply:
        """The judge's answer to one prompt.

        Raises:
            CallFailed: there is none after all attempts, or none to be had for this prompt.
            BudgetSpent: the budget does not allow the call.
            JudgeRefused: there will be none for any prompt.
            JudgeUnreachable: ``GIVE_UP_AFTER`` calls failed after all attempts, and none in between had an answer.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_TryAgain),
            stop=stop_after_attempt(self._endpoint.attempts),
            wait=self._wait,
            reraise=True,
        )
        try:
            reply: Reply = await retrying(self._call, system, user)
        except _TryAgain as fault:
            reason = f"{fault} ({self._endpoint.attempts} attempts)"
            self._failed_in_a_row += not fault.lasting
            if self._failed_in_a_row >= GIVE_UP_AFTER:
                raise JudgeUnreachable(
                    f"the judge {self._endpoint.model} at {self._endpoint.base_url} does not answer: {reason}",
                    fix="see whether it runs, then run again; what is done is kept",
                ) from None
            raise CallFailed(reason, lasting=fault.lasting) from None
        return replace(reply, attempts=int(retrying.statistics["attempt_number"]))

    async def _call(self, system: str, user: str) -> Reply:
        """One request, and another where the judge wants its settings in other words."""
        most = Tokens(roughly_tokens(system + user), self._endpoint.max_tokens)
        while True:
            sent = dict(self._sent)
            await self._pace()
            await self._budget.reserve(most)
            used = most  # where nobody says what an unanswered request cost
            try:
                reply = _reply(await self._request(system, user, sent), most.prompt, sent)
                used = reply.tokens
            except openai.APIStatusError as error:
                used = Tokens()
                if not self._reworded(error, sent):
                    raise self._fault(error) from None
            else:
                self._failed_in_a_row = 0
                return reply
            finally:
                self._budget.settle(most, used)

    async def _request(self, system: str, user: str, sent: dict[str, float]) -> str:
        """The body of the judge's response."""
        messages = [{"role": "system", "content": _encodable(system)}] if system else []
        messages.append({"role": "user", "content": _encodable(user)})
        create: Any = self._client.chat.completions.with_raw_response.create
        try:
            # The client's own limit is on each read, which a judge that sends a byte now and then never reaches.
            response = await asyncio.wait_for(
                create(model=self._endpoint.model, messages=messages, **sent), self._endpoint.timeout
            )
        except (asyncio.TimeoutError, openai.APITimeoutError):
            raise _TryAgain(f"no answer within {self._endpoint.timeout:g} s") from None
        except openai.APIConnectionError as error:
            raise _TryAgain(self._safe(f"no connection: {error.__cause__ or error}")) from None
        body: str = response.http_response.text
        return body

    def _reworded(self, error: openai.APIStatusError, sent: dict[str, float]) -> bool:
        """Whether the request was refused for settings that can be said otherwise, as for OpenAI's newer models."""
        if error.status_code != 400:
            return False
        text = str(error)
        if "max_tokens" in sent and "max_completion_tokens" in text:
            self._sent["max_completion_tokens"] = self._sent.pop("max_tokens", self._endpoint.max_tokens)
        elif "temperature" in sent and "temperature" in text:
            self._sent.pop("temperature", None)
        else:
            return False
        return True

    def _fault(self, error: openai.APIStatusError) -> Exception:
        """What a response that is no answer means."""
        status, reason = error.status_code, self._safe(str(error))
        if status in _REFUSALS or error.code == "insufficient_quota":
            where = f"{self._endpoint.model} at {self._endpoint.base_url}"
            fixes = {
                404: "check the model's name (--judge-model) and the address (--judge-base-url)",
                429: "add to the account, then run again; what is done is kept",
            }
            key = f"check the key in {self._endpoint.key_env}, then run again; what is done is kept"
            return JudgeRefused(f"the judge {where} refuses: {reason}", fix=fixes.get(status, key))
        if status < 500 and status not in _PASSING_STATUSES:
            return CallFailed(reason, lasting=True)
        wait = retry_after(error.response.headers.get("retry-after"))
        if wait is not None:
            self._pause_until = max(self._pause_until, time.monotonic() + wait)
            if wait >= TOLD_FROM_SECONDS:
                self._notice(f"the judge asks to wait {wait:.0f} s (status {status})")
        return _TryAgain(reason, wait=wait)

    def _wait(self, state: RetryCallState) -> float:
        """Seconds until the next attempt: what the judge asked for, else more and more, by chance."""
        fault = state.outcome.exception() if state.outcome is not None else None
        if isinstance(fault, _TryAgain) and fault.wait is not None:
            return fault.wait
        return wait_random_exponential(multiplier=self._endpoint.backoff, max=LONGEST_BACKOFF_SECONDS)(state)

    async def _pace(self) -> None:
        """Wait for this request's turn, and while the judge wants none."""
        if self._endpoint.requests_per_minute is not None:
            now = time.monotonic()
            turn = max(now, self._next_turn)
            self._next_turn = turn + 60 / self._endpoint.requests_per_minute
            await asyncio.sleep(turn - now)
        while (wait := self._pause_until - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    def _safe(self, text: str) -> str:
        """A server's words, short and without the key."""
        words = " ".join(redacted(text.replace(self._key, MASK) if self._key != NO_KEY else text).split())
        return words if len(words) <= _LONGEST_REASON else f"{words[:_LONGEST_REASON]}..."


def retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, given as a number or as a date; None where it is neither."""
    if header is None:
        return None
    try:
        return max(0.0, min(float(header), 86400.0))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    # Clamped, as this machine's clock may be wrong.
    return max(0.0, min((moment - datetime.datetime.now(datetime.timezone.utc)).total_seconds(), 86400.0))


def _reply(body: str, prompt_tokens: int, sent: dict[str, float]) -> Reply:
    """Read a response's body.

    Raises:
        _TryAgain: it is no chat completion, or an empty one.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise _TryAgain("the response is not JSON", lasting=True) from None
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise _TryAgain("the response has no choices[0].message.content", lasting=True) from None
    if not isinstance(text, str) or not text.strip():
        raise _TryAgain("the judgment is empty", lasting=True)
    usage = answer.get("usage")
    tokens = Tokens(
        _count(usage, "prompt_tokens", prompt_tokens), _count(usage, "completion_tokens", roughly_tokens(text))
    )
    return Reply(text, tokens, _text(choice.get("finish_reason")), _text(answer.get("model")), sent)


def _encodable(text: str) -> str:
    """``text`` without the halves of signs that some files hold, which no request can carry."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _count(usage: object, key: str, otherwise: int) -> int:
    value = usage.get(key) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
