"""Decide whether two evaluations of one task compare: wholly, on the documents they share, or not at all, and why.

What decides is what was shown to the models and how it was scored. The documents' own hashes are the best evidence of
it: where they are there, settings that can only change prompts are checked against the prompts themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LONGEST_SHOWN = 40
_SHORTENED = 12
LIMITED = "was limited to"
"""What a remark says where only part of the documents were evaluated."""

Setting = str | int | float | None
Rows = NDArray[np.intp]


class Comparable(str, Enum):
    """Say whether two evaluations compare."""

    COMPARABLE = "comparable"
    ON_COMMON_DOCUMENTS = "comparable on the documents in common"
    REFUSED = "not comparable"


class Document(NamedTuple):
    """Identify one evaluated document by hashes of what it is, what the model was shown, and what was right.

    A judge's questions are documents, too: the number, the text, and the reference answer.
    """

    document: str
    prompt: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Describe how one model was evaluated on one task; None for what is not recorded.

    Attributes:
        label: What to call this evaluation in a sentence.
        documents: In the order of the values that belong to them; None where no samples were kept.
        unpaired: Why documents that were logged stand for nothing but their prompts, as where samples were cut; empty
            where they can be paired.
        n: Number of documents scored, for results without samples.
        limit: Documents that were asked for, where ``n`` is not known; "none" for all.
        available: Documents the task has; more than were scored where a limit was set.
        fingerprint: A hash over all documents, prompts and targets in order.
        task_version: The task's version.
        metric: The metric compared, with its filter.
        judge: The judge's model.
        judge_prompts: Name or hash of the judge's prompts.
        judge_settings: The judge's temperature and the like.
        generation: Temperature, length and stop strings of the answers.
        num_fewshot: Number of examples in the prompt.
        fewshot_plan: How they were chosen.
        data: A fingerprint of the rows behind the documents and examples.
        chat_template: Name or hash.
        system_prompt: Text or hash.
        engine: What ran the model.
        dtype: The precision of its weights.
        batch_size: As it was set.
        max_tokens: Most new tokens of an answer.
        sampling: Further settings of generation.
        max_length: Tokens that fit the context.
        lm_eval_version: Of lm-eval.
        transformers_version: Of transformers.
        hardware: What it ran on.
    """

    label: str
    documents: Sequence[Document] | None = None
    unpaired: str = ""
    n: int | None = None
    limit: Setting = None
    available: int | None = None
    fingerprint: str | None = None
    task_version: Setting = None
    metric: Setting = None
    judge: Setting = None
    judge_prompts: Setting = None
    judge_settings: Setting = None
    generation: Setting = None
    num_fewshot: Setting = None
    fewshot_plan: Setting = None
    data: Setting = None
    chat_template: Setting = None
    system_prompt: Setting = None
    engine: Setting = None
    dtype: Setting = None
    batch_size: Setting = None
    max_tokens: Setting = None
    sampling: Setting = None
    max_length: Setting = None
    lm_eval_version: Setting = None
    transformers_version: Setting = None
    hardware: Setting = None

    @property
    def size(self) -> int | None:
        """Return the number of documents scored."""
        return self.n if self.documents is None or self.unpaired else len(self.documents)


_SCORING = ("task_version", "metric", "judge", "judge_prompts", "judge_settings", "generation")
"""Two evaluations that differ in one of these never compare."""
_PROMPTING = ("num_fewshot", "fewshot_plan", "data", "chat_template", "system_prompt")
"""Nor in these, unless the prompts turn out to be the same."""
_MACHINERY = (
    *("engine", "dtype", "batch_size", "max_tokens", "sampling", "max_length"),
    *("lm_eval_version", "transformers_version", "hardware"),
)
"""These are said beside the comparison."""

_NAMES = {
    "num_fewshot": "few-shot examples",
    "fewshot_plan": "few-shot plan",
    "judge_prompts": "judge's prompts",
    "judge_settings": "judge's settings",
    "generation": "generation settings",
    "max_tokens": "longest answer in tokens",
    "sampling": "generation",
    "lm_eval_version": "lm-eval",
    "transformers_version": "transformers",
}


@dataclass(frozen=True, eq=False)
class Comparability:
    """Describe what a comparison of two evaluations can be.

    Attributes:
        outcome: Whether they compare.
        reasons: Why not, or why only on some documents; empty where they compare wholly.
        remarks: What a reader should know beside the comparison.
        n: Documents compared; None where that is not known, 0 where the comparison is refused.
        rows: Indices of the compared documents in the first's and in the second's ``documents``, pair by pair; None
            where samples are missing, so that only totals compare, or the comparison is refused.
    """

    outcome: Comparable
    reasons: tuple[str, ...]
    remarks: tuple[str, ...]
    n: int | None
    rows: tuple[Rows, Rows] | None

    @property
    def words(self) -> str:
        """Word the outcome as a phrase, such as "not comparable: metric: acc for a, acc_norm for b"."""
        said = self.outcome.value
        if self.outcome is Comparable.ON_COMMON_DOCUMENTS:
            said = f"comparable on the {_count(self.n or 0, 'document')} in common"
        return f"{said}: {'; '.join(self.reasons)}" if self.reasons else said


def compare_conditions(first: Conditions, second: Conditions) -> Comparability:
    """Decide whether two evaluations of one task compare.

    Differences in scoring refuse the comparison. So do different prompts or answers for the same document, no document
    in common, and, without samples, different numbers of documents, fingerprints or prompt settings. Where both have
    documents that the other lacks, or one has more, those in common compare. Engine, precision, versions and whatever
    only one side records are remarks.
    """
    if first.documents is None or second.documents is None:
        found = _totals(first, second)
    else:
        found = _document_by_document(first, second, first.documents, second.documents)
        if first.unpaired or second.unpaired:
            found = _by_prompts_alone(found, first, second)
    if scoring := tuple(_differences(_SCORING, first, second)):
        found = _refused(*scoring, *found.reasons)
    return replace(found, remarks=(*found.remarks, *_remarks(first, second)))


def _by_prompts_alone(found: Comparability, first: Conditions, second: Conditions) -> Comparability:
    """Decide by prompts where samples were cut: they can show that prompts differ, for all else totals count."""
    has_documents = bool(_common(first.documents or (), second.documents or ()))
    return found if has_documents and found.outcome is Comparable.REFUSED else _totals(first, second)


def _totals(first: Conditions, second: Conditions) -> Comparability:
    """Decide where samples are missing."""
    settings = tuple(_differences(_PROMPTING, first, second))
    without = " and ".join(each.label for each in (first, second) if each.documents is None or each.unpaired)
    if None in (first.size, second.size) and (limits := list(_differences(("limit",), first, second))):
        return _refused(*limits, *settings)
    if None not in (first.size, second.size) and first.size != second.size:
        sizes = f"{first.label} has {_count(first.size or 0, 'document')}, {second.label} {second.size:,}"
        return _refused(f"{sizes}; without samples of {without} those in common cannot be found", *settings)
    known = first.fingerprint is not None and second.fingerprint is not None
    if known and first.fingerprint != second.fingerprint:
        return _refused("documents, prompts or their order differ", *settings)
    if settings and not known:
        return _refused(*settings)
    unchecked = "" if known else ", and whether documents and prompts are the same cannot be checked"
    remarks = (f"{_lacking(first, second)}: only totals compare{unchecked}", *map(_harmless, settings))
    size = second.size if first.size is None else first.size
    return Comparability(Comparable.COMPARABLE, (), remarks, size, None)


def _lacking(first: Conditions, second: Conditions) -> str:
    """Say what is missing to pair documents."""
    cut = [f"the samples of {each.label} {each.unpaired}" for each in (first, second) if each.unpaired]
    none = [each.label for each in (first, second) if each.documents is None and not each.unpaired]
    return " and ".join([*([f"no samples of {' and '.join(none)}"] if none else []), *cut])


def _document_by_document(
    first: Conditions, second: Conditions, own: Sequence[Document], other: Sequence[Document]
) -> Comparability:
    """Decide where both have samples."""
    if len(own) and (
        own is other or list(own) == list(other)
    ):  # the ordinary case by far, and as many pairs as there are documents
        rows = np.arange(len(own))
        settings = tuple(_differences(_PROMPTING, first, second))
        return Comparability(Comparable.COMPARABLE, (), tuple(map(_harmless, settings)), len(own), (rows, rows))
    pairs = _common(own, other)
    if not pairs:
        return _refused(f"{first.label} and {second.label} have no document in common")
    prompts = sum(own[mine].prompt != other[theirs].prompt for mine, theirs in pairs)
    targets = sum(own[mine].target != other[theirs].target for mine, theirs in pairs)
    settings = tuple(_differences(_PROMPTING, first, second))
    among = f"of {_count(len(pairs), 'document')} in common"
    found = {"prompts": prompts, "right answers": targets}
    reasons = [f"the {what} of {count:,} {among} differ" for what, count in found.items() if count]
    if reasons:
        return _refused(*reasons, *(settings if prompts else ()))
    mine, theirs = np.array(pairs, np.intp).T
    outcome = Comparable.COMPARABLE
    if not len(pairs) == len(own) == len(other):
        outcome = Comparable.ON_COMMON_DOCUMENTS
        reasons = [f"{first.label} has {_count(len(own), 'document')}, {second.label} {len(other):,}"]
    return Comparability(outcome, tuple(reasons), tuple(map(_harmless, settings)), len(pairs), (mine, theirs))


def _common(own: Sequence[Document], other: Sequence[Document]) -> list[tuple[int, int]]:
    """Pair the indices of the same document in both; the k-th of several alike goes with the other's k-th.

    The order is that of both, where they have the same, else that of the hashes: it does not depend on which is first.
    """
    theirs = {key: index for index, key in enumerate(_numbered(other))}
    found = {key: (index, theirs[key]) for index, key in enumerate(_numbered(own)) if key in theirs}
    places = [index for _, index in found.values()]
    return list(found.values()) if places == sorted(places) else [found[key] for key in sorted(found)]


def _numbered(documents: Iterable[Document]) -> Iterator[tuple[str, int]]:
    seen: Counter[str] = Counter()
    for each in documents:
        yield each.document, seen[each.document]
        seen[each.document] += 1


def _remarks(first: Conditions, second: Conditions) -> Iterator[str]:
    yield from _differences(_MACHINERY, first, second)
    for name in (*_SCORING, *_PROMPTING):
        missing = [each.label for each in (first, second) if getattr(each, name) is None]
        if len(missing) == 1:
            yield f"{_words(name)}: not recorded for {missing[0]}"
    for each in (first, second):
        if each.size is not None and each.available is not None and each.size < each.available:
            yield f"{each.label} {LIMITED} {each.size:,} of {_count(each.available, 'document')}"


def _differences(names: Iterable[str], first: Conditions, second: Conditions) -> Iterator[str]:
    """Say where both record a setting, and not the same."""
    for name in names:
        one, other = getattr(first, name), getattr(second, name)
        if one is not None and other is not None and one != other:
            yield f"{_words(name)}: {_shown(one)} for {first.label}, {_shown(other)} for {second.label}"


def _refused(*reasons: str) -> Comparability:
    return Comparability(Comparable.REFUSED, reasons, (), 0, None)


def _harmless(difference: str) -> str:
    return f"{difference}; all prompts are the same nevertheless"


def _words(name: str) -> str:
    return _NAMES.get(name, name.replace("_", " "))


def _shown(value: Setting) -> str:
    text = str(value)
    return f"{text[:_SHORTENED]}…" if len(text) > _LONGEST_SHOWN else text


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
