"""A few documents of a task, with what each model made of them side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from os.path import commonprefix
from pathlib import Path
from typing import Any, NamedTuple

from reports.sources import as_number, json_lines
from reports.text import Excerpt, head, tail
from smaug_eval.errors import SmaugError

DOCUMENTS_PER_TASK = 3
PROMPT_CHARACTERS = 400
CHOICE_CHARACTERS = 300
GENERATION_CHARACTERS = 1200


class ChoiceScore(NamedTuple):
    """What one model gave one choice: natural-log likelihood, the same per character, and whether it ranks first."""

    log_likelihood: float
    per_character: float
    is_pick: bool


class Choice(NamedTuple):
    """One choice with its scores in the order of the models; None where a model has no such sample."""

    text: Excerpt
    is_right: bool
    scores: list[ChoiceScore | None]


class Answer(NamedTuple):
    """A generated answer, and what lm-eval's filter took from it where that differs."""

    text: Excerpt
    extracted: Excerpt | None


class Verdict(NamedTuple):
    """A model's metric on one document; ``value`` is NaN where the metric is not a number."""

    metric: str
    value: float

    @property
    def word(self) -> str:
        return {1.0: "right", 0.0: "wrong"}.get(self.value, "")


@dataclass(frozen=True)
class Sample:
    """One document for several models.

    Attributes:
        document: lm-eval's ``doc_id``.
        prompt: The question alone where the document has one in ``query``, else the end of the prompt.
        prompt_length: Length of the whole prompt in characters.
        target: The right answer as lm-eval logs it.
        choices: Empty where the answer is generated.
        answers: One per model where the answer is generated, else empty.
        verdicts: One per model; None where a model has no such sample.
    """

    document: int
    prompt: Excerpt
    prompt_length: int
    target: Excerpt
    choices: list[Choice]
    answers: list[Answer | None]
    verdicts: list[Verdict | None]


class Request(NamedTuple):
    """One request of a logged sample with its responses."""

    context: str
    continuation: str | None
    response: Any
    filtered: Any

    @property
    def log_likelihood(self) -> float:
        # lm-eval writes the pair (log-likelihood, is greedy) as strings.
        return float(self.filtered[0])


def _requests(raw: Mapping[str, Any]) -> list[Request]:
    arguments = raw["arguments"]
    if isinstance(arguments, dict):
        arguments = [list(arguments[f"gen_args_{i}"].values()) for i in range(len(arguments))]
    filtered = raw["filtered_resps"]
    requests = []
    for index, (values, responses) in enumerate(zip(arguments, raw["resps"], strict=True)):
        continuation = values[1] if len(values) > 1 and isinstance(values[1], str) else None
        result = filtered[index] if index < len(filtered) else None
        requests.append(Request(str(values[0]), continuation, responses[0], result))
    return requests


def _choice_texts(requests: Sequence[Request]) -> list[str]:
    """What tells the choices apart: the continuations, or the ends of the contexts before one continuation."""
    continuations = [request.continuation or "" for request in requests]
    if len(set(continuations)) > 1 or len(requests) == 1:
        return [text.strip() for text in continuations]
    common = commonprefix([request.context for request in requests])  # noqa: RUF071 - of texts, not of paths
    shared = common.rfind(" ") + 1  # whole words
    return [f"{request.context[shared:]}{request.continuation}" for request in requests]


def _gold(raw: Mapping[str, Any], count: int) -> set[int]:
    """Indices of the right choices; empty where the log does not say."""
    document = raw["doc"]
    if isinstance(document.get("n_true"), int):
        return set(range(document["n_true"]))
    for value in (document.get("gold"), raw.get("target")):
        text = str(value)
        if text.isdecimal() and int(text) < count:
            return {int(text)}
    return set()


def _scored(raw: Mapping[str, Any]) -> list[Request]:
    """The requests behind the headline metric: of a TruthfulQA document those of mc2, which follow those of mc1."""
    return _requests(raw)[raw["doc"].get("n_mc1", 0) :]


def _choice_scores(requests: Sequence[Request], metric: str) -> list[ChoiceScore]:
    values = [request.log_likelihood for request in requests]
    lengths = [max(1, len((request.continuation or "").removeprefix(" "))) for request in requests]
    per_character = [value / length for value, length in zip(values, lengths, strict=True)]
    ranked = per_character if metric == "acc_norm" else values
    pick = max(range(len(ranked)), key=ranked.__getitem__)
    return [ChoiceScore(*pair, index == pick) for index, pair in enumerate(zip(values, per_character, strict=True))]


def _answer(request: Request) -> Answer:
    text = str(request.response)
    extracted = "" if request.filtered is None else str(request.filtered)
    differs = request.filtered is not None and extracted.strip() != text.strip()
    return Answer(head(text, GENERATION_CHARACTERS), head(extracted, CHOICE_CHARACTERS) if differs else None)


def _verdict(raw: Mapping[str, Any], metric: str | None) -> Verdict:
    shown = metric if metric is not None and metric in raw else str(next(iter(raw.get("metrics") or ()), ""))
    return Verdict(shown, as_number(raw.get(shown)))


def _first_documents(path: Path, count: int) -> list[dict[str, Any]]:
    """The first ``count`` samples; a task with several filters logs all documents under the first one first."""
    return list(islice(json_lines(path), count))


def _matching(path: Path, wanted: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any] | None]:
    """For each wanted sample, another model's sample of the same document; None where it has none."""

    def key(raw: Mapping[str, Any]) -> tuple[object, ...]:
        return (raw.get("doc_id"), raw.get("filter"), raw.get("doc_hash"))

    open_keys, found = {key(raw) for raw in wanted}, {}
    for raw in json_lines(path):
        if key(raw) in open_keys:
            found[key(raw)] = raw
            if len(found) == len(open_keys):
                break
    return (found.get(key(raw)) for raw in wanted)


def _side_by_side(raws: Sequence[Mapping[str, Any] | None], metric: str | None) -> Sample:
    """One document; the first of ``raws`` that is there says what it is."""
    reference = next(raw for raw in raws if raw is not None)
    verdicts = [None if raw is None else _verdict(raw, metric) for raw in raws]
    requests = _scored(reference)
    is_generated = any(request.continuation is None for request in requests)
    columns: list[list[ChoiceScore] | None] = []
    choices: list[Choice] = []
    if not is_generated:
        ranking = next(verdict.metric for verdict in verdicts if verdict is not None)
        columns = [None if raw is None else _choice_scores(_scored(raw), ranking) for raw in raws]
        gold = _gold(reference, len(requests))
        choices = [
            Choice(
                head(text, CHOICE_CHARACTERS),
                index in gold,
                [None if column is None or len(column) <= index else column[index] for column in columns],
            )
            for index, text in enumerate(_choice_texts(requests))
        ]
    context = requests[0].context
    query = reference["doc"].get("query")
    prompt = query if isinstance(query, str) else context
    return Sample(
        document=reference["doc_id"],
        prompt=tail(prompt, PROMPT_CHARACTERS),
        prompt_length=len(context),
        target=head(str(reference.get("target", "")), CHOICE_CHARACTERS),
        choices=choices,
        answers=[None if raw is None else _answer(_scored(raw)[0]) for raw in raws] if is_generated else [],
        verdicts=verdicts,
    )


def task_samples(
    files: Sequence[Path | None], *, metric: str | None = None, count: int = DOCUMENTS_PER_TASK
) -> list[Sample]:
    """The first documents of one task, for several models.

    Args:
        files: lm-eval's samples file of each model, None where a model has none; the first that is there chooses
            the documents.
        metric: The task's headline metric; the first logged one where None or absent.
        count: How many documents.

    Raises:
        SmaugError: a file is not lm-eval's format.
    """
    first = next((path for path in files if path is not None), None)
    if first is None:
        return []
    wanted = _first_documents(first, count)
    columns = [
        [None] * len(wanted) if path is None else wanted if path == first else list(_matching(path, wanted))
        for path in files
    ]
    try:
        return [_side_by_side(raws, metric) for raws in zip(*columns, strict=True)]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        names = ", ".join(str(path) for path in files if path is not None)
        raise SmaugError(
            f"{names}: a sample is not in lm-eval's format ({error!r})", fix="leave the file out, or evaluate again"
        ) from error
