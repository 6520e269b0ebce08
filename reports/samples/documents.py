"""Read documents of a task, with each model's answers and scores side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os.path import commonprefix
from typing import Any, NamedTuple

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.text import Excerpt, head, tail
from smaug_eval.common.workers import spread
from smaug_eval.leaderboard.benchmarks.gsm8k import final_answer
from smaug_eval.reports.samples.generations import Failure, Run, failure, marked
from smaug_eval.reports.samples.outcomes import OutcomesRow, SampleOutcome, TaskRows
from smaug_eval.results.sample_files import arguments_of
from smaug_eval.results.sample_index import read_samples

PROMPT_CHARACTERS = 3000
CONTEXT_CHARACTERS = 2000
CHOICE_CHARACTERS = 300
GENERATION_CHARACTERS = 1200

_MANY_READ = 10_000
"""Samples to read from which on several processes read them: a second's work, and they take half of one to start."""

_FOREIGN = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What reading a sample of another format ends in."""


class ChoiceScore(NamedTuple):
    """Hold one model's score of one choice: log-likelihood in nats, the same per character, whether it ranks first."""

    log_likelihood: float
    per_character: float
    is_pick: bool


class Choice(NamedTuple):
    """Hold one choice with its scores in the order of the models; None where a model has no such sample."""

    text: Excerpt
    is_right: bool
    scores: list[ChoiceScore | None]


class GeneratedAnswer(NamedTuple):
    """Hold a generated answer.

    Attributes:
        text: The answer, cut where it is long.
        runs: The same text in runs that are in the baseline's answer, and runs that are not.
        extracted: What lm-eval's filter took from it, where that differs.
        failure: How a solution with a final number fails, or that it is right; None of any other answer.
    """

    text: Excerpt
    runs: list[Run]
    extracted: Excerpt | None
    failure: Failure | None


class DocumentScore(NamedTuple):
    """Hold a model's metric on one document.

    ``value`` is NaN where it is not a number, ``outcome`` None where unknown.
    """

    metric: str
    value: float
    outcome: SampleOutcome | None

    @property
    def word(self) -> str:
        """Return "right" for 1 and "wrong" for 0; empty for any other value."""
        return {1.0: "right", 0.0: "wrong"}.get(self.value, "")


@dataclass(frozen=True)
class Sample:
    """Hold one document for several models.

    Attributes:
        document: lm-eval's ``doc_id``.
        prompt: The question alone where the document has one in ``query``, else the end of the prompt.
        context: The end of what stands before the question in the prompt; empty where there is nothing, and the whole
            prompt where the question is not its end.
        prompts_differ: Whether some other model was given another prompt.
        target: The right answer as lm-eval logs it.
        choices: Empty where the answer is generated.
        answers: One per model where the answer is generated, else empty.
        verdicts: One per model; None where a model has no such sample.
    """

    document: str
    prompt: Excerpt
    context: Excerpt
    prompts_differ: bool
    target: Excerpt
    choices: list[Choice]
    answers: list[GeneratedAnswer | None]
    verdicts: list[DocumentScore | None]


class Read(NamedTuple):
    """Hold what was read of a task; None where nobody has read it yet, or it could not be read.

    Attributes:
        samples: As :func:`task_samples`.
        failures: As :func:`failure_counts`.
    """

    samples: list[Sample] | None
    failures: list[Counter[Failure]] | None


def read_ahead(tasks: Sequence[tuple[TaskRows, Sequence[OutcomesRow]]], *, baseline: int = 0) -> list[Read]:
    """Call :func:`task_samples` and :func:`failure_counts` in several processes, where they have much to read.

    Args:
        tasks: Each task, with those of its rows that are wanted.
        baseline: As for :func:`task_samples`.

    Returns:
        One per task; what is None in it is left to the two functions, which say why.
    """
    solved = [place for place, (task, _) in enumerate(tasks) if _has_solutions(task)]
    lines = [len(task.files) * len(rows) for task, rows in tasks]
    if sum(lines) + sum(len(tasks[place][0].files) * len(tasks[place][0].rows) for place in solved) < _MANY_READ:
        return [Read(None, None)] * len(tasks)
    # The longest first; copies, since what is kept of a task may be added to while it is sent.
    counting: list[partial[Any]] = [partial(failure_counts, replace(tasks[place][0])) for place in solved]
    reading = [partial(task_samples, replace(task, rows=()), rows, baseline=baseline) for task, rows in tasks]
    found = spread(_called, [*counting, *reading])
    counts = dict(zip(solved, found, strict=False))
    return [Read(own, counts.get(place)) for place, own in enumerate(found[len(solved) :])]


def _called(function: partial[Any]) -> Any:
    return function()


def _has_solutions(task: TaskRows) -> bool:
    """Whether the first sample of a task is a solution with a final number."""
    first = TaskRows(task.task, task.files[:1], task.rows[:1])
    try:
        return any(failure_counts(first) or ())
    except (SmaugError, OSError):
        return False


def task_samples(task: TaskRows, rows: Sequence[OutcomesRow], *, baseline: int = 0) -> list[Sample]:
    """Return some documents of a task, for several models.

    Args:
        task: The task, as :func:`~smaug_eval.reports.samples.outcomes.task_rows` found it.
        rows: Those of its rows that are wanted.
        baseline: Whose document is shown where models differ, and whose answer the others are held against.

    Returns:
        One per row, in their order.

    Raises:
        SmaugError: a file is not lm-eval's format.
    """
    columns: list[Sequence[Mapping[str, Any] | None]] = []
    for index, path in enumerate(task.files):
        read = {} if path is None else dict(read_samples(path, _starts(rows, index)))
        columns.append([None if (found := row.found[index]) is None else read[found.start] for row in rows])
    try:
        return [_side_by_side(raws, row, baseline) for row, raws in zip(rows, zip(*columns, strict=True), strict=True)]
    except _FOREIGN as error:
        raise _foreign(task, error) from error


def failure_counts(task: TaskRows) -> list[Counter[Failure]] | None:
    """Return how the solutions of a task fail, over all of its documents.

    Returns:
        How many of each kind, per model; None where the task asks for no solutions with a final number.

    Raises:
        SmaugError: a file is not lm-eval's format.
    """
    counts: list[Counter[Failure]] = []
    try:
        for index, path in enumerate(task.files):
            counts.append(Counter())
            if path is None:
                continue
            for _, raw in read_samples(path, _starts(task.rows, index)):
                gold = _final_number(raw)
                if gold is None:
                    return None
                counts[index][failure(str(_scored(raw)[0].response), gold)] += 1
    except _FOREIGN as error:
        raise _foreign(task, error) from error
    return counts


def _starts(rows: Sequence[OutcomesRow], index: int) -> list[int]:
    """Where one model's lines begin."""
    return [found.start for row in rows if (found := row.found[index]) is not None]


def _side_by_side(raws: Sequence[Mapping[str, Any] | None], row: OutcomesRow, baseline: int) -> Sample:
    """One document; the baseline's sample says what it is, or the first that is there."""
    reference = next(raw for raw in (raws[baseline], *raws) if raw is not None)
    requests = _scored(reference)
    context = requests[0].context
    query = reference["doc"].get("query")
    prompt = query if isinstance(query, str) else context
    before = context[: len(context) - len(prompt)] if context.endswith(prompt) else context
    verdicts = [
        None if found is None else DocumentScore(found.metric, found.value, outcome)
        for found, outcome in zip(row.found, row.outcomes, strict=True)
    ]
    is_generated = any(request.continuation is None for request in requests)
    ranking = next(verdict.metric for verdict in (verdicts[baseline], *verdicts) if verdict is not None)
    return Sample(
        document=str(reference["doc_id"]),
        prompt=tail(prompt, PROMPT_CHARACTERS),
        context=tail(before, CONTEXT_CHARACTERS),
        prompts_differ=any(raw is not None and _scored(raw)[0].context != context for raw in raws),
        target=head(str(reference.get("target", "")), CHOICE_CHARACTERS),
        choices=[] if is_generated else _choices(raws, reference, ranking),
        answers=_answers(raws, _final_number(reference), baseline) if is_generated else [],
        verdicts=verdicts,
    )


def _choices(raws: Sequence[Mapping[str, Any] | None], reference: Mapping[str, Any], ranking: str) -> list[Choice]:
    """The choices of ``reference`` with every model's scores; ``ranking`` is the metric that ranks them."""
    requests = _scored(reference)
    gold = _gold(reference, len(requests))
    columns = [None if raw is None else _choice_scores(_scored(raw), ranking) for raw in raws]
    return [
        Choice(
            head(text, CHOICE_CHARACTERS),
            index in gold,
            [None if column is None or len(column) <= index else column[index] for column in columns],
        )
        for index, text in enumerate(_choice_texts(requests))
    ]


def _answers(raws: Sequence[Mapping[str, Any] | None], gold: str | None, baseline: int) -> list[GeneratedAnswer | None]:
    """Every model's answer with its differences from the baseline's; ``gold`` is the right final number, if any."""
    requests = [None if raw is None else _scored(raw)[0] for raw in raws]
    whole = [None if request is None else str(request.response) for request in requests]
    texts = [None if text is None else head(text, GENERATION_CHARACTERS) for text in whole]
    runs = marked([None if text is None else text.text for text in texts], baseline)
    return [
        None
        if request is None or text is None or excerpt is None
        else GeneratedAnswer(excerpt, own, _extracted(request), None if gold is None else failure(text, gold))
        for request, text, excerpt, own in zip(requests, whole, texts, runs, strict=True)
    ]


def _extracted(request: AskedRequest) -> Excerpt | None:
    """What lm-eval's filter made of the answer, where it changed something."""
    if request.filtered is None or str(request.filtered).strip() == str(request.response).strip():
        return None
    return head(str(request.filtered), CHOICE_CHARACTERS)


def _final_number(raw: Mapping[str, Any]) -> str | None:
    """The right final number of a word problem whose solution is generated; None of any other document."""
    if any(request.continuation is not None for request in _scored(raw)):
        return None
    return final_answer(str(raw.get("target", "")))


def _foreign(task: TaskRows, error: Exception) -> SmaugError:
    names = ", ".join(str(getattr(path, "path", path)) for path in task.files if path is not None)
    return SmaugError(
        f"{names}: a sample is not in lm-eval's format ({error!r})", fix="leave the file out, or evaluate again"
    )


class AskedRequest(NamedTuple):
    """Hold one request of a logged sample with its responses."""

    context: str
    continuation: str | None
    response: Any
    filtered: Any

    @property
    def log_likelihood(self) -> float:
        """Return the log-likelihood of the first response, in nats."""
        # lm-eval writes the pair (log-likelihood, is greedy) as strings.
        return float(self.filtered[0])


def _requests(raw: Mapping[str, Any]) -> list[AskedRequest]:
    filtered = raw["filtered_resps"]
    requests = []
    for index, (values, responses) in enumerate(zip(arguments_of(raw), raw["resps"], strict=True)):
        continuation = values[1] if len(values) > 1 and isinstance(values[1], str) else None
        result = filtered[index] if index < len(filtered) else None
        response = responses[0] if isinstance(responses, list) else responses
        requests.append(AskedRequest(str(values[0]), continuation, response, result))
    return requests


def _choice_texts(requests: Sequence[AskedRequest]) -> list[str]:
    """What distinguishes the choices: the continuations, or the ends of the contexts before one continuation."""
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


def _scored(raw: Mapping[str, Any]) -> list[AskedRequest]:
    """The requests behind the headline metric: of a TruthfulQA document those of mc2, which follow those of mc1."""
    return _requests(raw)[raw["doc"].get("n_mc1", 0) :]


def _choice_scores(requests: Sequence[AskedRequest], metric: str) -> list[ChoiceScore]:
    values = [request.log_likelihood for request in requests]
    lengths = [max(1, len((request.continuation or "").removeprefix(" "))) for request in requests]
    per_character = [value / length for value, length in zip(values, lengths, strict=True)]
    ranked = per_character if metric == "acc_norm" else values
    pick = max(range(len(ranked)), key=ranked.__getitem__)
    return [ChoiceScore(*pair, index == pick) for index, pair in enumerate(zip(values, per_character, strict=True))]
