"""Requests that are made at a time: what ends the work does not lose what was sent before."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from smaug_eval.common.errors import Incomplete
from smaug_eval.common.served.client import CallFailed
from smaug_eval.engines.served.calls import answers
from smaug_eval.engines.served.client import ModelClient


class _Client:
    async def __aexit__(self, *error: object) -> None:
        pass


def test_answers_under_way_are_given_before_the_error_that_ends_the_work() -> None:
    asked: list[str] = []

    async def make(client: Any, key: str) -> str:
        asked.append(key)
        if key == "slow":
            await asyncio.sleep(0.3)
        if key == "refused":
            raise Incomplete("the account is empty", fix="fill it")
        if key == "failed":
            raise CallFailed("too long", lasting=True)
        return key.upper()

    keys = ["failed", "slow", "refused", "never asked"]
    found = answers(lambda: cast(ModelClient, _Client()), make, keys, concurrency=3)
    assert next(found) == ("slow", "SLOW")
    with pytest.raises(Incomplete, match="the account is empty"):
        next(found)
    assert asked == keys[:3]
