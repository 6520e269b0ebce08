"""Per-document metrics that the Open LLM Leaderboard v1 and lm-eval 0.4.13 compute differently, in both versions.

The two ``*_metrics`` functions have the signature of lm-eval's ``process_results``.
Source: ``truthfulqa.py`` and ``gsm8k.py`` of lm-evaluation-harness at commit b281b0921b63; of lm-eval 0.4.13
``tasks/gsm8k/gsm8k.yaml``, ``tasks/truthfulqa/utils.py``, ``filters/extraction.py`` and ``api/metrics.py``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

_FINAL_ANSWER = re.compile(r"#### (\-?[0-9\.\,]+)")
_ANY_NUMBER = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_IGNORED = tuple(re.compile(pattern) for pattern in (r",", r"\$", r"(?s).*#### ", r"\.$"))
_NO_ANSWER = "[invalid]"


def final_answer(text: str) -> str | None:
    """The text of the first ``#### <number>``, without commas; None where there is none.

    Nothing else is normalised: "18." and "18.0" both differ from "18".
    """
    match = _FINAL_ANSWER.search(text)
    return match.group(1).replace(",", "") if match else None


def strict_match(text: str, answer: str) -> float:
    """lm-eval 0.4.13's ``exact_match,strict-match`` of GSM8K: 1 where the first ``#### <number>`` is the right one.

    Unlike the leaderboard's, the comparison ignores a period at the end.

    Args:
        text: What the model wrote.
        answer: The worked solution, whose final number is the right one.
    """
    match = _FINAL_ANSWER.search(text)
    return _same_number(match.group(1) if match else _NO_ANSWER, answer)


def flexible_extract(text: str, answer: str) -> float:
    """lm-eval 0.4.13's ``exact_match,flexible-extract`` of GSM8K: 1 where the last number in the text is right.

    Arguments as for :func:`strict_match`.
    """
    numbers = [match.group(0) for match in _ANY_NUMBER.finditer(text)]
    return _same_number(numbers[-1] if numbers else _NO_ANSWER, answer)


def _same_number(found: str, answer: str) -> float:
    return float(_without_ignored(found) == _without_ignored(answer))


def _without_ignored(text: str) -> str:
    for pattern in _IGNORED:
        text = pattern.sub("", text)
    return text.lower()


def mc1(log_likelihoods: Sequence[float]) -> float:
    """1 where the best answer, which comes first, has the highest log-likelihood; ties go to the first."""
    return float(np.argmax(log_likelihoods) == 0)


def mc2(log_likelihoods: Sequence[float], n_true: int) -> float:
    """Share of the answers' total probability that falls on the first ``n_true`` of them, in [0, 1].

    Shifted by the maximum, so that long answers do not underflow to 0/0 as they could in v1; elsewhere equal to it.
    """
    values = np.asarray(log_likelihoods, dtype=np.float64)
    probabilities = np.exp(values - values.max())
    return float(probabilities[:n_true].sum() / probabilities.sum())


def mc2_masked(log_likelihoods: Sequence[float], labels: Sequence[int]) -> float:
    """lm-eval 0.4.13's mc2: share of the total probability that falls on the answers labelled 1.

    Differs from :func:`mc2` only where true answers follow a false one.
    """
    values = np.asarray(log_likelihoods, dtype=np.float64)
    probabilities = np.exp(values - values.max())
    return float(probabilities[np.asarray(labels) == 1].sum() / probabilities.sum())


def truthfulqa_metrics(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """mc1 and mc2 of one question from the ``(log-likelihood, is greedy)`` of its mc1 and then its mc2 answers."""
    log_likelihoods = [log_likelihood for log_likelihood, _ in results]
    n_mc1 = doc["n_mc1"]
    return {"mc1": mc1(log_likelihoods[:n_mc1]), "mc2": mc2(log_likelihoods[n_mc1:], doc["n_true"])}


def gsm8k_metrics(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """The scorings of one generated solution.

    Returns:
        ``acc``: 1 where the generated final answer equals the gold one as a string, the leaderboard's metric;
        ``strict_match`` and ``flexible_extract``: lm-eval 0.4.13's, of the same text.
    """
    text, answer = results[0], doc["answer"]
    return {
        "acc": float(final_answer(text) == doc["gold"]),
        "strict_match": strict_match(text, answer),
        "flexible_extract": flexible_extract(text, answer),
    }
