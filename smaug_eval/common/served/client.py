"""Call an OpenAI-compatible endpoint, and retry until it answers, refuses for good, or money runs out.

Until a first answer has come, requests go one at a time: a server that refuses every call gets a few calls only,
and a parameter that it refuses costs one request.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from smaug_eval.common.errors import Incomplete
from smaug_eval.common.redaction import MASK, redacted
from smaug_eval.common.served.budget import Budget, Tokens
from smaug_eval.common.served.endpoint import NO_KEY, Endpoint, address_of, check_endpoint, header_values
from smaug_eval.common.served.faults import JudgeProblem, Kind, is_page, parsed, problem_of
from smaug_eval.common.served.replies import merged_stream, usage_of
from smaug_eval.common.served.waits import words

LONGEST_BACKOFF_SECONDS = 60.0
GIVE_UP_AFTER = 3
"""Calls in a row that fail after all attempts, lasting refusals of one sort in a row; one web page more."""
GIVE_UP_AFTER_PROMPTS = 8
"""Lasting refusals of one sort in a row that may be about the prompts."""
GIVE_UP_AFTER_ANY = 10
"""Lasting refusals of any sort where no call was ever answered."""
LAST_ANSWERS_SECONDS = 30.0
"""Requests under way when a server is given up may still be answered for this long: they are paid for."""
TOLD_FROM_SECONDS = 10.0
"""Waits that a judge requests are shown to the user from this length."""

_LONGEST_REASON = 300


class JudgeRefused(Incomplete):
    """Report that a judge, or another served model, will answer no call.

    The key, the model or the address is wrong, the account is empty, or it refuses every request alike.
    """


class JudgeUnreachable(Incomplete):
    """Report that a judge, or another served model, stopped answering altogether, or wants a wait that is too long."""


class CallFailed(Exception):
    """Report that one call got no usable answer; others may.

    Attributes:
        reason: Why, as text that holds no key.
        lasting: Whether the same call would fail again.
        kind: What it is about; None where that is not known.
    """

    def __init__(self, reason: str, *, lasting: bool, kind: Kind | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting
        self.kind = kind


class NotAsked(CallFailed):
    """Report that a call was not made, or not again, because the server was given up meanwhile."""


class TryAgain(Exception):
    """Report a fault that may pass.

    Attributes:
        wait: Seconds that the server asks to wait; None where it does not say.
        lasting: Whether the same call would most likely fail again.
    """

    def __init__(self, reason: str, *, wait: float | None = None, lasting: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.lasting = lasting


_Answer = TypeVar("_Answer")


class ServedClient(ABC):
    """Call a served model; use it as ``async with``. What is asked and how it is read is each subclass's own.

    Args:
        endpoint: The model.
        budget: Counts and limits the calls.
        notice: Receives lines for the user.

    Raises:
        SmaugError: see :func:`check_endpoint`.
    """

    def __init__(self, endpoint: Endpoint, budget: Budget, notice: Callable[[str], None]) -> None:
        self._endpoint, self._budget, self._notice = endpoint, budget, notice
        self._key = check_endpoint(endpoint)
        self._client = _client(endpoint, self._key)
        self._pause_until = self._next_turn = 0.0
        self._failed_in_a_row = self._refused_in_a_row = self._refused_in_all = self._pages_in_a_row = 0
        self._last_refusal = ""
        self._is_known = self._has_answered = False
        self._alone = asyncio.Lock()
        self._ended: JudgeRefused | JudgeUnreachable | None = None

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.close()

    @abstractmethod
    async def _send(self, *call: Any) -> Any:
        """Make one request; return None where it was refused for what is worded otherwise from now on."""

    async def _ask(self, *call: Any) -> Any:
        """Answer one call, by :meth:`_send` with as many attempts as the endpoint allows.

        Raises:
            CallFailed: there is no answer after all attempts, or none to be had for this call.
            BudgetSpent: the budget does not allow it.
            JudgeRefused: there will be none for any call, or several in a row were refused alike.
            JudgeUnreachable: ``GIVE_UP_AFTER`` calls failed after all attempts, and none in between had an answer; or
                the server asks to wait for longer than the endpoint allows.
        """
        try:
            return await self._answer(*call)
        except (JudgeRefused, JudgeUnreachable) as error:
            self._ended = error
            raise

    async def _answer(self, *call: Any) -> Any:
        """Answer like :meth:`_ask`, but do not report the end of everything to calls that wait for their turn."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TryAgain),
            stop=stop_after_attempt(self._endpoint.attempts),
            wait=self._wait,
            reraise=True,
        )
        try:
            reply: Any = await retrying(self._call, *call)
        except TryAgain as fault:
            reason = f"{fault} ({self._endpoint.attempts} attempts)"
            self._failed_in_a_row += not fault.lasting
            if self._failed_in_a_row >= GIVE_UP_AFTER:
                raise JudgeUnreachable(
                    f"the {self._endpoint.where_in_words} does not answer: {reason}",
                    fix="see whether it runs, then run again; what is done is kept",
                ) from None
            if fault.lasting:
                raise self._lasting(reason, None, str(fault)) from None
            raise CallFailed(reason, lasting=False) from None
        return replace(reply, attempts=int(retrying.statistics["attempt_number"]))

    def fix(self, kind: Kind | None) -> str:
        """Return what fixes a refusal of a kind."""
        limit = self._endpoint.max_tokens
        return (kind or Kind.REQUEST).value.format(
            key_env=self._endpoint.key_env, half_max_tokens=max(1, limit // 2), double_max_tokens=2 * limit
        )

    async def _call(self, *call: Any) -> Any:
        """One request, and another where the server wants its parameters in other words."""
        found = None
        while found is None:
            self._check_ended()
            if self._is_known:
                found = await self._send(*call)
                continue
            async with self._alone:
                self._check_ended()
                if not self._is_known:
                    found = await self._send(*call)
        return found

    def _check_ended(self) -> None:
        """Make no further attempt at a server that was given up."""
        if self._ended is not None:
            raise NotAsked(self._ended.message, lasting=True)

    async def _exchange(
        self,
        most: Tokens,
        create: Callable[[], Awaitable[Any]],
        read: Callable[[Any], tuple[_Answer, Tokens]],
        reword: Callable[[JudgeProblem], None],
    ) -> _Answer | None:
        """Make one request and read its response.

        Args:
            most: The tokens that it may cost.
            create: Sends it by the client, for a raw response.
            read: Takes the JSON of the body; gives the answer, and the tokens where the body does not count them.
            reword: Takes a refusal; raises what it means, or changes what is sent from now on.

        Returns:
            The answer; None where the request was refused and the next will be another.
        """
        await self._pace()
        await self._budget.reserve(most)
        used = most  # where it is not known what an unanswered request cost
        try:
            status, headers, body = await self._response(create)
            problem, content = problem_of(status, headers, body), parsed(body)
            if problem is not None:
                used = usage_of(content, Tokens())
                reword(problem)
                return None
            if is_page(body, headers.get("content-type", "")):
                used = Tokens()
                raise self._page(body)
            if content is None:
                raise TryAgain(f"the response is not JSON: {self._safe(body[:100]) or 'it is empty'}", lasting=True)
            used = usage_of(content, most)
            answer, counted = read(content)
            used = usage_of(content, counted)
        except TryAgain as fault:
            self._is_known |= not fault.lasting
            raise
        finally:
            self._budget.settle(most, used)
        self._is_known = self._has_answered = True
        self._failed_in_a_row = self._refused_in_a_row = self._refused_in_all = self._pages_in_a_row = 0
        return answer

    async def _response(self, create: Callable[[], Awaitable[Any]]) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of a response; a stream as one body."""
        try:
            # The client's own limit is on each read, which a server that sends a byte now and then never reaches.
            raw = await asyncio.wait_for(create(), self._endpoint.timeout)
            response = raw.http_response
        except openai.APIStatusError as error:
            response = error.response
        except (asyncio.TimeoutError, openai.APITimeoutError):
            raise TryAgain(f"no answer within {self._endpoint.timeout:g} s") from None
        except openai.APIConnectionError as error:
            raise TryAgain(self._safe(f"no connection: {error.__cause__ or error}")) from None
        return response.status_code, dict(response.headers), merged_stream(response.text)

    def _fault(self, problem: JudgeProblem) -> Exception:
        """What a response that is no answer means."""
        reason = self._safe(problem.message)
        if problem.kind.ends_all:
            return JudgeRefused(f"the {self._endpoint.where_in_words} refuses: {reason}", fix=self.fix(problem.kind))
        if not problem.passes:
            return self._lasting(reason, problem.kind, problem.likeness)
        if problem.wait is not None:
            if problem.wait > self._endpoint.longest_wait:
                return JudgeUnreachable(
                    f"the {self._endpoint.where_in_words} asks to wait {words(problem.wait)}, longer than longest_wait "
                    f"({words(self._endpoint.longest_wait)}): {reason}",
                    fix=f"run again in {words(problem.wait)}, or raise it ({self._option}longest_wait="
                    f"{int(problem.wait) + 1}); what is done is kept",
                )
            self._pause(problem.wait, problem.status)
        return TryAgain(reason, wait=problem.wait)

    @property
    def _option(self) -> str:
        """How a setting of the endpoint is named to the user."""
        return "--set-judge " if self._endpoint.role == "judge" else "engine_args."

    def _pause(self, wait: float, status: int) -> None:
        """Let every call wait, and say so once."""
        until = time.monotonic() + wait
        if wait >= TOLD_FROM_SECONDS and until > self._pause_until + 1:
            self._notice(f"the {self._endpoint.role} asks to wait {wait:.0f} s (status {status})")
        self._pause_until = max(self._pause_until, until)

    def _page(self, body: str) -> Exception:
        """What a web page in the place of an answer means: at first a proxy's, in the end a wrong address."""
        self._pages_in_a_row += 1
        reason = f"the response is a web page, not JSON: {self._safe(body[:200])}"
        if self._pages_in_a_row <= GIVE_UP_AFTER:
            return TryAgain(reason, lasting=True)
        fix = self.fix(Kind.NONSENSE)
        return JudgeRefused(f"the {self._endpoint.where_in_words} answers with web pages, not JSON", fix=fix)

    def _lasting(self, reason: str, kind: Kind | None, likeness: str) -> Exception:
        """A call that would fail again; where as many failed alike in a row, every one would."""
        self._refused_in_a_row = self._refused_in_a_row + 1 if likeness == self._last_refusal else 1
        self._refused_in_all += 1
        self._last_refusal = likeness
        most = GIVE_UP_AFTER_PROMPTS if kind is not None and kind.is_of_prompt else GIVE_UP_AFTER
        if self._refused_in_a_row >= most or (not self._has_answered and self._refused_in_all >= GIVE_UP_AFTER_ANY):
            return JudgeRefused(
                f"the {self._endpoint.where_in_words} refuses every call ({self._refused_in_all} in a row): {reason}",
                fix=self.fix(kind),
            )
        return CallFailed(reason, lasting=True, kind=kind)

    def _wait(self, state: RetryCallState) -> float:
        """Seconds until the next attempt: what the judge asked for, else more and more, by chance."""
        fault = state.outcome.exception() if state.outcome is not None else None
        if isinstance(fault, TryAgain) and fault.wait:
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
        words_of_it = " ".join(redacted(text.replace(self._key, MASK) if self._key != NO_KEY else text).split())
        return words_of_it if len(words_of_it) <= _LONGEST_REASON else f"{words_of_it[:_LONGEST_REASON]}..."


def _client(endpoint: Endpoint, key: str) -> openai.AsyncOpenAI:
    """The client for an endpoint; Azure's where it has an API version."""
    address = address_of(endpoint)
    headers = header_values(endpoint)
    common: dict[str, Any] = {
        "api_key": key,
        "timeout": endpoint.timeout,
        "max_retries": 0,
        # Proxies are for what is elsewhere.
        "http_client": openai.DefaultAsyncHttpxClient(trust_env=False) if endpoint.is_local else None,
        "default_query": address.query,
    }
    if address.is_bare_azure and address.azure is not None:
        root = address.url.removesuffix("/openai")
        return openai.AsyncAzureOpenAI(
            azure_endpoint=root, api_version=address.azure, default_headers=headers, **common
        )
    if address.is_deployment and address.azure is not None:
        return openai.AsyncAzureOpenAI(
            base_url=address.url, api_version=address.azure, default_headers=headers, **common
        )
    if address.azure is not None:  # a gateway before it: the key in both headers
        headers = {"api-key": key, **headers}
    return openai.AsyncOpenAI(base_url=address.url, default_headers=headers, **common)
