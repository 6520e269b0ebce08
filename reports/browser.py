"""Lists of entries that the page's script can filter: what the controls offer, and what entries are found by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlencode


class Control(NamedTuple):
    """One filter: entries bear the words of ``options`` (word, text) in ``data-<name>``."""

    name: str
    label: str
    options: list[tuple[str, str]]


def word(value: str) -> str:
    """``value`` as one word."""
    return value.replace(" ", "-")


def filter_words(values: Sequence[str | None]) -> list[str]:
    """What an entry is found by: the value of each model as a word, and the same with the model's number."""
    words = [(index, word(value)) for index, value in enumerate(values) if value is not None]
    return list(dict.fromkeys([*(each for _, each in words), *(f"{index}:{each}" for index, each in words)]))


def of_model(value: str, number: int, models: int) -> str:
    """The option of :func:`options` that stands for ``value`` of one model, of so many that a control distinguishes."""
    return word(value) if models == 1 else f"{number}:{word(value)}"


def state(browser: str, **filters: object) -> str:
    """The part of the page's address at which the browser in a panel shows what the filters find."""
    return f"{browser}?{urlencode(filters)}"


def options(texts: Mapping[str, str], models: Sequence[tuple[int, str]]) -> list[tuple[str, str]]:
    """What a control offers: each word for any model, then each for one.

    Args:
        texts: Word to what it is called.
        models: Number and name of each.
    """
    if len(models) == 1:
        return list(texts.items())
    of_any = [(each, f"{text}, any model") for each, text in texts.items()]
    of_one = [
        (of_model(each, number, len(models)), f"{text}, {model}")
        for number, model in models
        for each, text in texts.items()
    ]
    return [*of_any, *of_one]
