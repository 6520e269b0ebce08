"""The v1 plan: which documents come in which order behind which shots.

Source: ``evaluator.py`` and ``base.py`` of lm-evaluation-harness at commit b281b0921b63. One generator per task
shuffles the evaluated documents and then draws the shots of each, in that order.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from smaug_eval.errors import SmaugError
from smaug_eval.leaderboard.forms import SHOT_SEPARATOR, Document, Form, Row, continuations
from smaug_eval.leaderboard.official import data_set_name

SEED = 42

Rendered = TypeVar("Rendered")


@dataclass(frozen=True)
class DataSplit:
    """One split of a data set, by its names on the Hub.

    Attributes:
        hub_id: The data set.
        config: Its configuration.
        name: The split.
        revision: The commit to read from the Hub; None for the newest.
    """

    hub_id: str
    config: str
    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.hub_id} ({self.config}), split {self.name}"


@dataclass(frozen=True)
class Generation:
    """Greedy decoding: at most ``max_new_tokens``, cut before the first of the ``stops`` (or the end token)."""

    stops: tuple[str, ...]
    max_new_tokens: int


@dataclass(frozen=True)
class TaskSpec:
    """One task of a suite: a form, its data, and the shots before each question.

    Attributes:
        name: The task's name in lm-eval.
        form: How rows become text.
        evaluated: The split whose rows are scored.
        num_fewshot: Solved examples before each question.
        shots: The split they come from; None where there are none.
        draws_shots: Whether each document draws its own shots; otherwise all share the first ``num_fewshot`` rows.
        header: Text before the shots, its separator included.
        subject: Only rows with this ``subject`` belong to the task; None for all rows.
        generation: Decoding settings of a task whose answer is generated.
        official_rows: Rows of the evaluated split on the Hub (of the subject); None where nothing is official.
        official_shot_rows: The same for the shots.
    """

    name: str
    form: Form
    evaluated: DataSplit
    num_fewshot: int = 0
    shots: DataSplit | None = None
    draws_shots: bool = True
    header: str = ""
    subject: str | None = None
    generation: Generation | None = None
    official_rows: int | None = None
    official_shot_rows: int | None = None


def shot_plan(
    n_documents: int, n_pool: int, num_fewshot: int, *, draws_shots: bool = True
) -> list[tuple[int, list[int]]]:
    """Row index of each document in protocol order, with the row indices of its shots.

    Args:
        n_documents: Rows of the evaluated split.
        n_pool: Rows of the shot split.
        num_fewshot: Shots per document.
        draws_shots: Draw them for each document; otherwise take the first.

    Returns:
        ``n_documents`` pairs ``(document, shots)``; taking the first N equals the harness's ``--limit N``.

    Raises:
        ValueError: the pool is smaller than ``num_fewshot``.
    """
    if num_fewshot > n_pool:
        raise ValueError(f"{num_fewshot} shots cannot come from {n_pool} rows")
    generator = random.Random(SEED)
    order = list(range(n_documents))
    generator.shuffle(order)
    if not draws_shots:
        return [(document, list(range(num_fewshot))) for document in order]
    return [(document, generator.sample(range(n_pool), num_fewshot)) for document in order]


def build_documents(spec: TaskSpec, shot_rows: Sequence[Row], rows: Sequence[Row]) -> list[Document]:
    """All documents of a task in protocol order.

    Args:
        spec: The task.
        shot_rows: Rows of ``spec.shots``, in order; empty where the task has none.
        rows: Rows of ``spec.evaluated``, in order.

    Returns:
        One document per row: the form's fields, and ``doc``, the row's index in ``rows``.

    Raises:
        SmaugError: a row does not fit the task's form, or there are too few rows to draw shots from.
    """
    try:
        plan = shot_plan(len(rows), len(shot_rows), spec.num_fewshot, draws_shots=spec.draws_shots)
    except ValueError as error:
        raise SmaugError(f"{spec.name}: {error} of {spec.shots}", fix="use the complete split") from error
    solved = [
        _rendered(spec, spec.shots, index, spec.form.shot, row) + SHOT_SEPARATOR for index, row in enumerate(shot_rows)
    ]
    documents = []
    for index, shots in plan:
        preamble = spec.header + "".join([solved[shot] for shot in shots])
        fields = _rendered(spec, spec.evaluated, index, spec.form.document, rows[index], preamble)
        documents.append({"doc": index, **fields})
    return documents


def _rendered(
    spec: TaskSpec, split: DataSplit | None, index: int, render: Callable[..., Rendered], *arguments: Any
) -> Rendered:
    try:
        return render(*arguments)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise SmaugError(
            f"{spec.name}: row {index} of {split} does not fit the form {spec.form.name}: {error!r}",
            fix="use rows as the Hub has them",
        ) from error


def requests(spec: TaskSpec, document: Document) -> list[tuple[str, str]]:
    """What a document asks of the model: ``(context, continuation)`` pairs, or one context with its stops as JSON."""
    if spec.generation is None:
        return continuations(document)
    return [(document["ctx"], json.dumps({"until": spec.generation.stops}))]


def requests_sha256(request_list: Iterable[tuple[str, str]]) -> str:
    """Fingerprint of requests in order: equal exactly where a model is asked the same."""
    digest = hashlib.sha256()
    for request in request_list:
        digest.update(json.dumps(request, ensure_ascii=False).encode())
    return digest.hexdigest()


def data_notes(spec: TaskSpec, n_shot_rows: int, n_rows: int) -> list[str]:
    """Where the data differ from the official ones in number, in words; empty where they do not."""
    checks = [(spec.evaluated, n_rows, spec.official_rows)]
    if spec.shots is not None:
        checks.append((spec.shots, n_shot_rows, spec.official_shot_rows))
    about = f" ({spec.subject})" if spec.subject else ""
    return [
        f"{data_set_name(split.hub_id)} {split.name}{about} has {found:,} rows, official {official:,}"
        for split, found, official in checks
        if official is not None and found != official
    ]
