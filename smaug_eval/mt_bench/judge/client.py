"""Call a judge behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from smaug_eval.common.served.budget import Budget, Tokens, roughly_tokens
from smaug_eval.common.served.client import GIVE_UP_AFTER as GIVE_UP_AFTER
from smaug_eval.common.served.client import CallFailed as CallFailed
from smaug_eval.common.served.client import JudgeRefused as JudgeRefused
from smaug_eval.common.served.client import JudgeUnreachable as JudgeUnreachable
from smaug_eval.common.served.client import ServedClient, TryAgain
from smaug_eval.common.served.endpoint import Endpoint, Reply
from smaug_eval.common.served.faults import JudgeProblem
from smaug_eval.common.served.replies import Completion, read_completion, usage_of
from smaug_eval.common.served.waits import retry_after as retry_after
from smaug_eval.mt_bench.judge.wording import Wording


class JudgeClient(ServedClient):
    """Call a judge; use it as ``async with``.

    Args:
        endpoint: The judge.
        budget: Counts and limits the calls.
        notice: Receives lines for the user.

    Raises:
        SmaugError: see :func:`~smaug_eval.common.served.endpoint.check_endpoint`.
    """

    def __init__(self, endpoint: Endpoint, budget: Budget, notice: Callable[[str], None]) -> None:
        super().__init__(endpoint, budget, notice)
        self._wording = Wording(endpoint)

    async def ask(self, system: str, user: str) -> Reply:
        """Return the judge's answer to one prompt.

        Raises:
            CallFailed: there is none after all attempts, or none to be had for this prompt.
            BudgetSpent: the budget does not allow the call.
            JudgeRefused: there will be none for any prompt, or several in a row were refused alike.
            JudgeUnreachable: ``GIVE_UP_AFTER`` calls failed after all attempts, and none in between had an answer; or
                the judge asks to wait for longer than the endpoint allows.
        """
        reply: Reply = await self._ask(system, user)
        return reply

    async def _send(self, *call: Any) -> Reply | None:
        """Make one request; return None where it was refused for a parameter that is worded otherwise from now on."""
        system, user = call
        sent = self._wording.sent
        most = Tokens(roughly_tokens(system + user), self._endpoint.max_tokens)

        def create() -> Any:
            arguments = self._wording.arguments(sent, _encodable(system), _encodable(user))
            return self._client.chat.completions.with_raw_response.create(model=self._endpoint.model, **arguments)

        def read(content: Any) -> tuple[Reply, Tokens]:
            completion = read_completion(content, self._endpoint.max_tokens)
            if completion is None:
                raise TryAgain("the response has no choices[0].message.content", lasting=True)
            if completion.lacking is not None:
                raise self._lacking(completion)
            used = Tokens(most.prompt, roughly_tokens(completion.text + completion.reasoning))
            told = completion.finish_reason, completion.served_by
            return Reply(completion.text, usage_of(content, used), *told, sent, reasoning=completion.reasoning), used

        return await self._exchange(
            most, create, read, lambda problem: self._reworded(problem, sent, has_system=bool(system))
        )

    def _reworded(self, problem: JudgeProblem, sent: dict[str, Any], *, has_system: bool) -> None:
        """Word the request otherwise where a refusal names a parameter, and raise what it means elsewhere."""
        told = self._wording.reword(problem, sent, has_system=has_system)
        if told is None:
            raise self._fault(problem)
        if told:
            words_of_judge = self._safe(problem.message)
            self._notice(f"the judge refuses a parameter ({words_of_judge}): {told}; every call from now on is so")

    def _lacking(self, completion: Completion) -> Exception:
        """What an answer without a judgment means."""
        reason = self._safe(completion.lacking or "")
        if completion.kind is None:
            return TryAgain(reason, lasting=True)
        return self._lasting(reason, completion.kind, reason)


def _encodable(text: str) -> str:
    """``text`` without the halves of signs that some files hold, which no request can carry."""
    return text.encode("utf-8", "replace").decode("utf-8")
