"""Read what lm-eval logged of one document: its requests, generation settings and log-likelihoods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from smaug_eval.leaderboard.benchmark import Sample
from smaug_eval.leaderboard.forms import Row

END_TOKENS = ("</s>", "<|im_end|>")
"""Of lm-eval's list of stops; the leaderboard stopped at the model's own end token."""


def arguments(sample: Sample) -> list[list[Any]]:
    """Return the arguments of each request, from the lists of older versions and the objects of newer ones."""
    found = sample["arguments"]
    if isinstance(found, Mapping):
        return [list(found[f"gen_args_{index}"].values()) for index in range(len(found))]
    return [list(each) for each in found]


def continuations(sample: Sample) -> list[str]:
    """Return the continuation of each request, without the space before it."""
    return [str(each[1]).removeprefix(" ") for each in arguments(sample)]


def generation_settings(sample: Sample) -> Mapping[str, Any]:
    """Return the settings of a generated answer; empty where none were logged."""
    values = arguments(sample)[0]
    return values[1] if len(values) > 1 and isinstance(values[1], Mapping) else {}


def stops_of(settings: Mapping[str, Any]) -> list[str]:
    """Return the texts at which generation stopped."""
    until = settings.get("until", [])
    return [until] if isinstance(until, str) else list(until)


def log_likelihoods(sample: Sample) -> list[float]:
    """Return the log-likelihood of each request in nats."""
    return [float(response[0]) for response in sample["filtered_resps"]]


def repeats_of(sample: Sample) -> list[Sample]:
    """Return a sample for each of a document's sampled answers; the sample itself where it has one."""
    told = sample.get("repeats")
    answers = told.get("answers") if isinstance(told, Mapping) else None
    if not isinstance(answers, list) or not answers:
        return [sample]
    found: list[Sample] = []
    for number, answer in enumerate(answers):
        texts = [[each[number]] for each in sample["resps"]]
        found.append({**sample, "resps": texts, "filtered_resps": [answer] if isinstance(answer, str) else texts})
    return found


def best(values: Sequence[float]) -> int:
    """Return the index of the largest value; ties go to the first, as in both versions of the harness."""
    return int(np.argmax(values))


def logged_gold(document: Row) -> int:
    """Return the index of the right choice of a document of this project's own, which holds it."""
    return int(document["gold"])


def choice_measure(
    gold: Callable[[Row], int], *, by_length: bool = False
) -> Callable[[Sample, Sequence[str]], dict[str, float]]:
    """Return the scoring of a sample with choices: ``acc`` and, by characters of the choices, ``acc_norm``.

    Args:
        gold: Row to the index of the right choice, for documents of lm-eval's own tasks, which are rows.
        by_length: Whether there is ``acc_norm``, for choices of text.
    """

    def measure(sample: Sample, _stops: Sequence[str]) -> dict[str, float]:
        document = sample["doc"]
        right = document["gold"] if isinstance(document.get("gold"), int) else gold(document)
        values = log_likelihoods(sample)
        found = {"acc": float(best(values) == right)}
        if by_length:
            pairs = zip(values, continuations(sample), strict=True)
            found["acc_norm"] = float(best([value / max(1, len(text)) for value, text in pairs]) == right)
        return found

    return measure
