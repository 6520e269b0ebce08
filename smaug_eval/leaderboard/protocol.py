"""Plan the v1 protocol: which documents come in which order behind which shots.

Source: ``evaluator.py`` and ``base.py`` of lm-evaluation-harness at commit b281b0921b63. One generator per task
shuffles the evaluated documents and then draws the shots of each, in that order.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub_commits import is_commit
from smaug_eval.leaderboard.forms import SHOT_SEPARATOR, Document, Form, Row, continuations

SEED = 42

Rendered = TypeVar("Rendered")


@dataclass(frozen=True)
class DataSplit:
    """Describe one split of a data set, by its names on the Hub.

    Attributes:
        hub_id: The data set.
        config: Its configuration.
        name: The split.
        revision: The commit to read from the Hub, or a branch or tag; None for main.
        commit: The commit that the branch or tag has, once it was looked up.
        title: What tables call the data set; its id where this is empty.
        fingerprint: Of the official content (:func:`smaug_eval.leaderboard.official.fingerprint`), computed from a
            verbatim copy; None where that is not known.
        copies: Fingerprints of copies with the right number of rows that are known not to be the Hub's own text, each
            with a note.
    """

    hub_id: str
    config: str
    name: str
    revision: str | None = None
    commit: str | None = None
    title: str = ""
    fingerprint: str | None = None
    copies: tuple[tuple[str, str], ...] = ()

    @property
    def shown(self) -> str:
        """Return the data set and the split as notes name them."""
        return f"{self.title or self.hub_id} {self.name}"

    @property
    def reference(self) -> str:
        """Return the data set and the revision, see :func:`reference`."""
        return reference(self.hub_id, self.revision)

    @property
    def pinned(self) -> str | None:
        """Return the commit that is read; None where it is still to be looked up."""
        return self.revision if is_commit(self.revision) else self.commit

    def at(self, commits: Mapping[str, str]) -> DataSplit:
        """Return the split at the commit that its reference has in ``commits``, or as it is."""
        commit = commits.get(self.reference)
        return replace(self, commit=commit) if commit is not None else self

    def __str__(self) -> str:
        return f"{self.hub_id} ({self.config}), split {self.name}"


@dataclass(frozen=True)
class GenerationLimits:
    """Limit greedy decoding: at most ``max_new_tokens``, cut before the first of the ``stops`` (or the end token)."""

    stops: tuple[str, ...]
    max_new_tokens: int


@dataclass(frozen=True)
class TaskSpec:
    """Describe one task of a suite: a form, its data, and the shots before each question.

    Attributes:
        name: The task's name in lm-eval.
        form: How rows become text.
        evaluated: The split whose rows are scored.
        num_fewshot: Solved examples before each question.
        shots: The split they come from; None where there are none.
        draws_shots: Whether each document draws its own shots; otherwise all share the first ``num_fewshot`` rows.
        header: Text before the shots, its separator included.
        subject: Only rows with this ``subject`` belong to the task; None for all rows.
        keeps: A column and the value that rows of the task have in it; None for all rows.
        samples: Solved rows that are part of the task, in the place of ``shots``.
        is_shuffled: Whether the documents are shuffled; otherwise they keep the order of the rows.
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
    keeps: tuple[str, str] | None = None
    samples: tuple[Row, ...] = field(default=(), hash=False)
    is_shuffled: bool = True
    generation: GenerationLimits | None = None
    official_rows: int | None = None
    official_shot_rows: int | None = None

    @property
    def splits(self) -> tuple[DataSplit, ...]:
        """Return the splits that are read: the evaluated one, and the one of the shots."""
        return (self.evaluated,) if self.shots is None else (self.evaluated, self.shots)

    def at(self, commits: Mapping[str, str]) -> TaskSpec:
        """Return the task with its splits at commits, see :meth:`DataSplit.at`."""
        shots = None if self.shots is None else self.shots.at(commits)
        return replace(self, evaluated=self.evaluated.at(commits), shots=shots)


def reference(hub_id: str, revision: str | None = None) -> str:
    """Name a data set and a revision together: the id, with ``@`` and the revision unless that is main."""
    return hub_id if revision in (None, "main") else f"{hub_id}@{revision}"


def data_revisions(commits: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the commits by Hub id, as records keep them.

    Args:
        commits: References and commits.

    Returns:
        By Hub id; of a data set that is read at several commits, all with ``, `` between them.
    """
    found: dict[str, dict[str, None]] = {}
    for name, commit in commits:
        found.setdefault(name.partition("@")[0], {})[commit] = None
    return {hub_id: ", ".join(each) for hub_id, each in found.items()}


def shot_plan(
    n_documents: int, n_pool: int, num_fewshot: int, *, draws_shots: bool = True, is_shuffled: bool = True
) -> list[tuple[int, list[int]]]:
    """Return the row index of each document in protocol order, with the row indices of its shots.

    Args:
        n_documents: Rows of the evaluated split.
        n_pool: Rows of the shot split.
        num_fewshot: Shots per document.
        draws_shots: Draw them for each document; otherwise take the first.
        is_shuffled: Shuffle the documents; otherwise keep the order of the rows.

    Returns:
        ``n_documents`` pairs ``(document, shots)``; taking the first N equals the harness's ``--limit N``.

    Raises:
        ValueError: the pool is smaller than ``num_fewshot``.
    """
    if num_fewshot > n_pool:
        raise ValueError(f"{num_fewshot} shots cannot come from {n_pool} rows")
    generator = random.Random(SEED)
    order = list(range(n_documents))
    if is_shuffled:
        generator.shuffle(order)
    if not draws_shots:
        return [(document, list(range(num_fewshot))) for document in order]
    return [(document, generator.sample(range(n_pool), num_fewshot)) for document in order]


def build_documents(spec: TaskSpec, shot_rows: Sequence[Row], rows: Sequence[Row]) -> list[Document]:
    """Build all documents of a task in protocol order.

    Args:
        spec: The task.
        shot_rows: Rows of ``spec.shots``, or ``spec.samples``, in order; empty where the task has none.
        rows: Rows of ``spec.evaluated``, in order.

    Returns:
        One document per row: the form's fields, and ``doc``, the row's index in ``rows``.

    Raises:
        SmaugError: a row does not fit the task's form, or there are too few rows to draw shots from.
    """
    try:
        plan = shot_plan(
            len(rows), len(shot_rows), spec.num_fewshot, draws_shots=spec.draws_shots, is_shuffled=spec.is_shuffled
        )
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


def requests(spec: TaskSpec, document: Document, delimiter: str = " ") -> list[tuple[str, str]]:
    """Return a document's requests: ``(context, continuation)`` pairs, or one context with its stops as JSON.

    Args:
        spec: The task.
        document: One of its documents.
        delimiter: What stands before each continuation, see :func:`~smaug_eval.leaderboard.forms.continuations`.
    """
    if spec.generation is None:
        return continuations(document, delimiter)
    return [(document["ctx"], json.dumps({"until": spec.generation.stops}))]


def requests_sha256(request_list: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 of requests in order: it is equal exactly where models get the same requests."""
    digest = hashlib.sha256()
    for request in request_list:
        digest.update(json.dumps(request, ensure_ascii=False).encode())
    return digest.hexdigest()


def data_notes(spec: TaskSpec, n_shot_rows: int, n_rows: int) -> list[str]:
    """Say where the number of rows differs from the official one; the list is empty where it does not."""
    checks = [(spec.evaluated, n_rows, spec.official_rows)]
    if spec.shots is not None:
        checks.append((spec.shots, n_shot_rows, spec.official_shot_rows))
    about = f" ({spec.subject})" if spec.subject else ""
    return [
        f"{split.shown}{about} has {found:,} rows, official {official:,}"
        for split, found, official in checks
        if official is not None and found != official
    ]
