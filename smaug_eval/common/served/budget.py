"""Estimate what judging costs before it starts, and keep it within a budget."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass

from smaug_eval.common.errors import Incomplete, SmaugError

CHARACTERS_PER_TOKEN = 4
"""Of English text, roughly; judges count tokens each in their own way."""
_LOOK_AGAIN_SECONDS = 0.05


class BudgetSpent(Incomplete):
    """Report that the budget does not allow another call."""


@dataclass(frozen=True)
class Tokens:
    """Count tokens read and written."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)

    def __sub__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt - other.prompt, self.completion - other.completion)


@dataclass(frozen=True)
class Prices:
    """Hold the prices of a million tokens, in any currency."""

    prompt: float
    completion: float

    def of(self, tokens: Tokens) -> float:
        """Return the price of ``tokens``."""
        return (tokens.prompt * self.prompt + tokens.completion * self.completion) / 1e6


@dataclass(frozen=True)
class Estimate:
    """Estimate what some calls will take.

    Attributes:
        calls: How many they are.
        tokens: Roughly the tokens read, and the most that may be written.
        cost: The most they may cost; None without prices.
    """

    calls: int
    tokens: Tokens
    cost: float | None

    def describe(self) -> str:
        """Describe the estimate as text."""
        text = f"{self.calls:,} calls: about {self.tokens.prompt:,} tokens to read, at most {self.tokens.completion:,} "
        return f"{text}to write" + ("" if self.cost is None else f", at most {self.cost:,.2f}")


def roughly_tokens(text: str) -> int:
    """Return how many tokens a text has, roughly."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def estimate(prompts: Iterable[str], longest_reply: int, prices: Prices | None) -> Estimate:
    """Return what it takes to send each of ``prompts`` once, where a reply has at most ``longest_reply`` tokens."""
    sizes = [roughly_tokens(prompt) for prompt in prompts]
    tokens = Tokens(sum(sizes), longest_reply * len(sizes))
    return Estimate(len(sizes), tokens, None if prices is None else prices.of(tokens))


class Budget:
    """Count calls and tokens, and refuse a call that might exceed a limit.

    Every request counts as a call, a repeated one too. Before a request its largest possible cost is set aside, and
    after it the rest is given back.

    Args:
        max_calls: Most requests; None for any number.
        max_cost: Most that may be spent, in the currency of ``prices``; None for any amount.
        prices: Needed for ``max_cost``.

    Attributes:
        calls: Requests made.
        tokens: Tokens used, and those set aside for requests under way.

    Raises:
        SmaugError: there is a limit to the cost, but no prices.
    """

    def __init__(
        self, *, max_calls: int | None = None, max_cost: float | None = None, prices: Prices | None = None
    ) -> None:
        if max_cost is not None and prices is None:
            raise SmaugError(
                "max_cost needs the judge's prices, which we do not know",
                fix="give them per million tokens as price_in and price_out (--set-judge price_in=10)",
            )
        self.max_calls, self.max_cost, self.prices = max_calls, max_cost, prices
        self.calls = 0
        self.tokens = Tokens()
        self._under_way = 0

    @property
    def cost(self) -> float | None:
        """Return what has been spent or is set aside; None without prices."""
        return None if self.prices is None else self.prices.of(self.tokens)

    async def reserve(self, most: Tokens) -> None:
        """Set ``most`` aside for a request; waits where requests under way may leave enough over.

        Raises:
            BudgetSpent: the request might exceed a limit.
        """
        while (refusal := self._refusal(most)) is not None:
            if self._under_way == 0 or self._no_calls_left():
                raise BudgetSpent(f"the budget is spent: {refusal}", fix="raise it and run again; what is done is kept")
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        self.calls += 1
        self._under_way += 1
        self.tokens += most

    def settle(self, most: Tokens, used: Tokens) -> None:
        """Count a request as ended that had reserved ``most`` and used ``used``."""
        self._under_way -= 1
        self.tokens += used - most

    def describe(self) -> str:
        """Describe what was used as text."""
        used = f"{self.calls:,} calls, {self.tokens.prompt:,} tokens read, {self.tokens.completion:,} written"
        return used if self.cost is None else f"{used}, cost {self.cost:,.2f}"

    def _no_calls_left(self) -> bool:
        return self.max_calls is not None and self.calls >= self.max_calls

    def _refusal(self, most: Tokens) -> str | None:
        if self._no_calls_left():
            return f"{self.calls:,} of {self.max_calls:,} calls were made"
        if self.max_cost is None or self.prices is None:
            return None
        spent = self.prices.of(self.tokens)
        if spent + self.prices.of(most) <= self.max_cost:
            return None
        return f"another call may cost {self.prices.of(most):,.4f} and {spent:,.4f} of {self.max_cost:,.4f} are spent"
