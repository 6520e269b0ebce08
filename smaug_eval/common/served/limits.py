"""Define the keys that limit calls to a server, for all who configure one: rate, retries, waits and the budget.

A key's default, bounds and description stand here once: ``concurrency: int = CONCURRENCY``. Where one of them allows 0
and another does not, the bound is in the key's own type.
"""

from __future__ import annotations

from typing import Any, Protocol

from pydantic import Field

from smaug_eval.common.served.budget import Budget, Prices
from smaug_eval.common.served.endpoint import LONGEST_WAIT, Endpoint
from smaug_eval.common.settings import ADDED

CONCURRENCY = Field(Endpoint.concurrency, gt=0, description="Maximum number of concurrent requests.")
REQUESTS_PER_MINUTE = Field(Endpoint.requests_per_minute, gt=0, description="Maximum number of requests per minute.")
TIMEOUT = Field(Endpoint.timeout, gt=0, description="Seconds to wait for an answer.")
ATTEMPTS = Field(Endpoint.attempts, gt=0, description="Times a call is made before it counts as failed.")
BACKOFF = Field(Endpoint.backoff, ge=0, description="Seconds of the first wait between them, at most.")
MAX_CALLS: Any = Field(None, description="Maximum number of requests of one command, retries included.")
MAX_COST: Any = Field(None, description="Maximum cost of one command; needs the prices.")


def longest_wait(server: str) -> Any:
    """Return the key of the longest wait between attempts; ``server`` names who may ask for it."""
    return Field(
        LONGEST_WAIT,
        description=f"Maximum wait in seconds that the {server} may ask for.",
        json_schema_extra=ADDED,
    )


def price_in(server: str) -> Any:
    """Return the key of the price of what ``server`` reads."""
    return Field(None, ge=0, description=f"Price of a million tokens that the {server} reads.")


PRICE_OUT: Any = Field(None, ge=0, description="Price of a million tokens that it writes.")


class Spending(Protocol):
    """Describe the keys of a budget, as settings hold them; prices are of a million tokens."""

    max_calls: int | None
    max_cost: float | None
    price_in: float | None
    price_out: float | None


def budget_of(settings: Spending) -> Budget:
    """Return the budget of all calls that some settings allow, without a cost where one of the prices is missing."""
    prices = None
    if settings.price_in is not None and settings.price_out is not None:
        prices = Prices(settings.price_in, settings.price_out)
    return Budget(max_calls=settings.max_calls, max_cost=settings.max_cost, prices=prices)
