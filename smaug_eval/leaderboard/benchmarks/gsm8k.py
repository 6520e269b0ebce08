"""Define GSM8K: worded problems whose solution is generated and ends with ``#### <number>``.

Source: ``gsm8k.py`` of lm-evaluation-harness at commit b281b0921b63 (2023-06-15); data as on the Hub.
Of lm-eval 0.4.13 ``tasks/gsm8k/gsm8k.yaml``, ``filters/extraction.py`` and ``api/metrics.py``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from smaug_eval.leaderboard.benchmark import Benchmark, Documents, ModernTask, Sample, ViewCause
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.forms import Document, Form, Row, question
from smaug_eval.leaderboard.protocol import DataSplit, GenerationLimits, TaskSpec
from smaug_eval.leaderboard.samples import END_TOKENS, generation_settings, stops_of
from smaug_eval.leaderboard.scores import ColumnScore, Score, value_score

REVISION = "e53f048856ff4f594e959d75785d2c2d37b678ee"
_FINAL_ANSWER = re.compile(r"#### (\-?[0-9\.\,]+)")
_ANY_NUMBER = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_IGNORED = tuple(re.compile(pattern) for pattern in (r",", r"\$", r"(?s).*#### ", r"\.$"))
_NO_ANSWER = "[invalid]"
_ENDS_WITH_ANSWER = re.compile(r"#### \-?[0-9\.\,]+\s*$")
_MODERN_STOPS = ("Question:", *END_TOKENS)
_LIGHTEVAL_KEYS = ("qem", "em", "extractive_match")
STOP = "':' stop"
"""The cause of a difference that outputs of the leaderboard's task cannot always tell."""


def final_answer(text: str) -> str | None:
    """Return the text of the first ``#### <number>``, without commas; None where there is none.

    Nothing else is normalised: "18." and "18.0" both differ from "18".
    """
    match = _FINAL_ANSWER.search(text)
    return match.group(1).replace(",", "") if match else None


def strict_match(text: str, answer: str) -> float:
    """Return lm-eval 0.4.13's ``exact_match,strict-match`` of GSM8K: 1 where the first ``#### <number>`` is right.

    Unlike the leaderboard's, the comparison ignores a period at the end.

    Args:
        text: What the model wrote.
        answer: The worked solution, whose final number is the right one.
    """
    match = _FINAL_ANSWER.search(text)
    return _same_number(match.group(1) if match else _NO_ANSWER, answer)


def flexible_extract(text: str, answer: str) -> float:
    """Return lm-eval 0.4.13's ``exact_match,flexible-extract`` of GSM8K: 1 where the last number is the right one.

    Arguments as for :func:`strict_match`.
    """
    numbers = [match.group(0) for match in _ANY_NUMBER.finditer(text)]
    return _same_number(numbers[-1] if numbers else _NO_ANSWER, answer)


def shot(row: Row) -> str:
    """Return a worded problem with its worked solution."""
    return f"{question(row)} {row['answer']}"


def document(row: Row, preamble: str) -> Document:
    """Build the document of a worded problem whose solution is generated; ``gold`` is its final number as text."""
    gold = final_answer(row["answer"])
    if gold is None:
        raise ValueError("the answer has no '#### <number>'")
    query = question(row)
    return {"query": query, "ctx": preamble + query, "answer": row["answer"], "gold": gold}


def metrics(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score one generated solution, as lm-eval's ``process_results``.

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


def example(row: Row) -> str:
    """Return the text that the contamination check shows a model: the row without its final line."""
    return f"{row['question']} {row['answer'].split('####')[0].strip()}"


def identity(row: Row) -> tuple[list[str], str]:
    """Return what identifies a row in training pairs: its wordings, and the right answer."""
    return [row["question"]], final_answer(row["answer"]) or ""


def measure(sample: Sample, stops: Sequence[str]) -> dict[str, float]:
    """Score a logged solution by every rule.

    Args:
        sample: The sample.
        stops: Where the leaderboard cuts the text.

    Returns:
        ``acc`` of the text up to ``stops``; ``acc_unstopped``, the same rule on the whole text; ``strict_match`` and
        ``flexible_extract``; ``open`` and ``open_flexible``, 1 where the leaderboard's stops may have cut what lm-eval
        0.4.13 would have gone on to read.

    Raises:
        ValueError: the worked solution has no final number.
    """
    text, answer = str(sample["resps"][0][0]), sample["doc"]["answer"]
    gold = final_answer(answer)
    if gold is None:
        raise ValueError("the answer has no '#### <number>'")
    stopped = text
    for stop in stops:
        stopped = stopped.split(stop)[0]
    was_stopped = any(stop in stops_of(generation_settings(sample)) for stop in stops if stop not in _MODERN_STOPS)
    number = final_answer(text)
    return {
        "acc": float(final_answer(stopped) == gold),
        "acc_unstopped": float(number == gold),
        "strict_match": strict_match(text, answer),
        "flexible_extract": flexible_extract(text, answer),
        # The first match stays the first, whatever would have followed.
        "open": float(was_stopped and number is None),
        # Nothing after the number but blanks: the model had moved on to the next question, or ended.
        "open_flexible": float(was_stopped and not _ENDS_WITH_ANSWER.search(text)),
    }


def modern_rule(
    column: Column, _score: ColumnScore, documents: Documents
) -> tuple[Score | None, tuple[ViewCause, ...]]:
    """Return lm-eval 0.4.13's strict match; the least value it can have where outputs may have been cut at ':'."""
    values = documents.get(column.leaves[0].name, {})
    if "strict_match" not in values:
        return None, (ViewCause("equality", None, "the samples with the generated texts are needed"),)
    modern = value_score(values["strict_match"])
    equality = 100 * float((values["strict_match"] - values["acc_unstopped"]).mean())
    causes = [ViewCause("equality", equality, "a period at the end of the number is ignored")]
    n_open, n = int(values["open"].sum()), len(values["open"])
    if n_open:
        detail = (
            f"{n_open:,} of {n:,} outputs have no final answer and may have been cut at ':'; 0.4.13 reads on, and "
            f"would score between {modern.value:.2f} and {modern.value + 100 * n_open / n:.2f}"
        )
        causes.append(ViewCause(STOP, None, detail, "gsm8k"))
        modern = replace(modern, notes=(f"at least: {n_open:,} of {n:,} outputs may have been cut at ':'",))
    else:
        points = 100 * float((values["acc_unstopped"] - values["acc"]).mean())
        causes.append(ViewCause(STOP, points, "the leaderboard cuts the output at ':' or 'Question'"))
    if n_loose := int(values["open_flexible"].sum()):
        detail = f"{n_loose:,} of {n:,} outputs may have been cut before their last number: flexible_extract may differ"
        causes.append(ViewCause("flexible-extract", None, detail, "gsm8k"))
    return modern, tuple(causes)


def _same_number(found: str, answer: str) -> float:
    return float(_without_ignored(found) == _without_ignored(answer))


def _without_ignored(text: str) -> str:
    for pattern in _IGNORED:
        text = pattern.sub("", text)
    return text.lower()


FORM = Form("gsm8k", ("question", "answer"), shot, document, example=example, identity=identity)
TASK = TaskSpec(
    name="open_llm_v1_gsm8k",
    form=FORM,
    evaluated=DataSplit(
        "openai/gsm8k",
        "main",
        "test",
        REVISION,
        title="GSM8K",
        fingerprint="3fb31cfaeb4e270b7a44e0f3d244d96494e3c0956e699a1670ba24af1522cabd",
    ),
    num_fewshot=5,
    shots=DataSplit(
        "openai/gsm8k",
        "main",
        "train",
        REVISION,
        title="GSM8K",
        fingerprint="f23d761f3315a79bf59eb4deeda29ed369ca66e29f9f495e1a5d6403a446ba3d",
    ),
    generation=GenerationLimits(stops=(":", "Question:", "Question"), max_new_tokens=256),
    official_rows=1_319,
    official_shot_rows=7_473,
)
BENCHMARK = Benchmark(
    title="GSM8K",
    metric="acc",
    tasks=(TASK,),
    measure=measure,
    reported={"acc": ("acc,none", "acc", "exact_match,strict-match", *_LIGHTEVAL_KEYS)},
    modern=ModernTask("gsm8k", "exact_match,strict-match", modern_rule),
    names={"gsm8k": TASK.name},
    key_notes={
        "exact_match,strict-match": "lm-eval's strict-match{reason}: other stops, a period at the end ignored",
        **{key: f"lighteval's {key}" for key in _LIGHTEVAL_KEYS},
    },
    internal=frozenset({"acc_unstopped", "open", "open_flexible"}),
)
