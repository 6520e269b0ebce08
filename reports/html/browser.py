"""Build lists of entries that the page's script can filter: the controls, and the words entries are found by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlencode

from smaug_eval.common.text import visible

SAMPLES, JUDGMENTS = "samples", "judgments"
"""Keys of the panels that hold a browser, to which others link."""


class Control(NamedTuple):
    """Describe one filter: entries bear the words of ``options`` (word, text) in ``data-<name>``."""

    name: str
    label: str
    options: list[tuple[str, str]]


def word(value: str) -> str:
    """Return ``value`` as one word."""
    return value.replace(" ", "-")


def filter_words(values: Sequence[str | None]) -> list[str]:
    """Return what an entry is found by: the value of each model as a word, and the same with the model's number."""
    words = [(index, word(value)) for index, value in enumerate(values) if value is not None]
    return list(dict.fromkeys([*(each for _, each in words), *(f"{index}:{each}" for index, each in words)]))


def of_model(value: str, number: int, models: int) -> str:
    """Return the option of :func:`options` for ``value`` of one model, among as many as a control has."""
    return word(value) if models == 1 else f"{number}:{word(value)}"


def state(browser: str, **filters: object) -> str:
    """Return the part of the page's address at which the browser in a panel shows what the filters find."""
    return f"{browser}?{urlencode(filters)}"


def options(texts: Mapping[str, str], models: Sequence[tuple[int, str]]) -> list[tuple[str, str]]:
    """Return what a control offers: each word for any model, then each for one.

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


NO_OUTCOME = "-"


def codes_of(outcomes: Sequence[str]) -> dict[str, str]:
    """Return a letter for each outcome, by which entries name theirs against every choice of baseline."""
    return dict(zip(outcomes, "abcdefghij", strict=False))


def coded(outcomes: Sequence[str | None], codes: Mapping[str, str]) -> str:
    """Return the outcomes of all models against one baseline as one word, a letter for each."""
    return "".join(NO_OUTCOME if each is None else codes[each] for each in outcomes)


def switch(
    models: Sequence[str],
    choices: Sequence[str],
    codes: Mapping[str, str],
    texts: Mapping[str, str],
    *,
    named: bool = False,
) -> str:
    """Return what the page's script needs to show the outcomes of entries against another baseline, as JSON.

    Args:
        models: The models of the entries, in their order.
        choices: Those that can be the baseline; entries bear a word of :func:`coded` for each in ``data-against``.
        codes: Outcome to its letter.
        texts: The outcomes that the filter offers, and what they are called there.
        named: Whether entries name the model beside its outcome where there is but one.
    """
    return json.dumps(
        {
            "models": [visible(model) for model in models],
            "places": [models.index(each) if each in models else -1 for each in choices],
            "codes": {letter: [word(each), texts.get(each, each)] for each, letter in codes.items()},
            "offered": [word(each) for each in texts],
            "named": named,
        },
        ensure_ascii=False,
    )
