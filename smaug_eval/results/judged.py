"""Read judged answers for the report: those of a run directory, and FastChat's own files.

A set of judgments is one question set judged by one judge with one choice of reference answers; sets of several
sources that agree in these are shown in one table.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from smaug_eval.common.files import canonical_json
from smaug_eval.mt_bench.demo import JUDGE_NAME
from smaug_eval.mt_bench.files.layout import ANSWERS, JUDGMENTS, settings_file
from smaug_eval.mt_bench.files.record_files import read_answers, read_judgments
from smaug_eval.mt_bench.files.records import JudgmentRecord, Judgments, PairJudgmentRecord
from smaug_eval.mt_bench.files.settings import AnswerSettings, JudgmentSettings
from smaug_eval.mt_bench.judge.judgments_file import decided, missing_in
from smaug_eval.mt_bench.scores.stopped import renamed
from smaug_eval.mt_bench.scores.whole import missing_by_model, missing_reasons

UNKNOWN_SET = "FastChat judgments"
"""The title where nothing says which questions were asked, as in FastChat's files."""

THINKING = "thinking taken out"
"""What a turn is counted under, beside its mark, whose answer had a block of thinking."""

NO_MARK = "not recorded"
"""What a turn is counted under where nothing says what became of it."""

Marks = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class SetKey:
    """Hold what judgments must share to stand in one table.

    Attributes:
        title: What the question set is called; MT-Bench only where it was found to be that.
        judge: The judge's name in the files; empty where they do not say.
        references: Which reference answers the judge saw; empty where nothing says so.
    """

    title: str
    judge: str
    references: str


@dataclass
class JudgedSet:
    """Hold judgments that stand in one table.

    Attributes:
        key: What they share.
        is_demo: Whether the judge is the demo's rule.
        judgments: Of every model.
        marks: Model to mark ("ok", "empty", ...) to number of answered turns.
        settings: File name to how it was made, where that was recorded.
        served_by: What the judge's endpoint called the model that answered.
        judged_in: Model to what lies beside each file with judgments of its single answers.
    """

    key: SetKey
    is_demo: bool
    judgments: Judgments = field(default_factory=Judgments)
    marks: dict[str, Mapping[str, int]] = field(default_factory=dict)
    settings: dict[str, JudgmentSettings] = field(default_factory=dict)
    served_by: list[str] = field(default_factory=list)
    judged_in: dict[str, list[JudgmentSettings]] = field(default_factory=dict)

    @property
    def is_named(self) -> bool:
        """Return whether it is known which questions were asked."""
        return self.key.title != UNKNOWN_SET

    @property
    def models(self) -> list[str]:
        """Return every model with an answer or a judgment."""
        single = (record.model for record in self.judgments.single)
        pairs = (model for record in self.judgments.pairs for model in (record.model_1, record.model_2))
        return list(dict.fromkeys([*single, *pairs, *self.marks]))

    @property
    def missing(self) -> Mapping[str, int]:
        """Model to judgments of its answers that are missing, where it is known whose."""
        return missing_by_model(self.judgments)

    @property
    def missing_reasons(self) -> Mapping[str, int]:
        """Count why judgments are missing, the commonest reason first."""
        return missing_reasons(self.judgments)

    def why_not(self, model: str, other: str) -> str:
        """Say why the scores of two models do not compare: what was judged otherwise, as far as it was recorded.

        Empty where nothing was.
        """
        settings = [own for each in (model, other) for own in self._recorded(each)]
        if len({own.questions_sha256 for own in settings if own.questions_sha256}) > 1:
            return "the questions, reference answers or judge's prompts differ"
        if len({canonical_json(own.others) for own in settings if own.recorded}) > 1:
            return "the judge's settings differ"
        templates: dict[tuple[object, int], dict[str, str]] = {}
        for record in self.judgments.single:
            if record.model in (model, other) and len(record.judge) > 1:
                templates.setdefault((record.question_id, record.turn), {})[record.model] = record.judge[1]
        differing = sum(len(set(own.values())) > 1 for own in templates.values())
        return f"the judge's prompt differs on {differing} answer{'' if differing == 1 else 's'}" if differing else ""

    def unchecked(self, model: str, other: str) -> str:
        """Say that nothing tells whether two models answered the same questions; empty where something does.

        Models whose judgments lie in one file were judged together.
        """
        own, theirs = (self._recorded(each) for each in (model, other))
        together = any(each is another for each in own for another in theirs)
        if together or all(each.questions_sha256 for each in (*own, *theirs)):
            return ""
        return "judged apart, and it is not recorded whether questions, references and judge's prompts are the same"

    def _recorded(self, model: str) -> list[JudgmentSettings]:
        return [each for each in self.judged_in.get(model, []) if each.mode in ("", "single")]

    @property
    def not_judged(self) -> int:
        """Count the turns that were without an answer, over all files."""
        return sum(len(each.not_judged) for each in self.settings.values())


Part = tuple[str, JudgedSet, Mapping[str, str]]
"""A source's label, its judged answers, and what it calls a model to what the page does."""


def holds_dialogues(path: Path) -> bool:
    """Return whether ``path`` is a file of judgments or answers, or a folder as FastChat's for a question set."""
    if path.is_file():
        return path.suffix == ".jsonl"
    return any(_judgment_files(path)) or any(_answer_files(path))


def read_dialogues(path: Path) -> list[JudgedSet]:
    """Read the judgments or answers of a file, or the judgments and answers in a folder of FastChat's layout.

    Raises:
        SmaugError: a file is not in FastChat's format.
    """
    if path.is_file():
        judgments, answers = ([], [path]) if _holds_answers(path) else ([path], [])
    else:
        judgments, answers = _judgment_files(path), _answer_files(path)
    sets: dict[SetKey, JudgedSet] = {}
    for file in judgments:
        _add_file(sets, file)
    marks = {file.stem: counts for file in answers if (counts := _marks(file))}
    if marks and not sets:
        key = SetKey(AnswerSettings.read(answers[0]).question_set or UNKNOWN_SET, "", "")
        sets[key] = JudgedSet(key, is_demo=False)
    for each in sets.values():
        judged = set(each.models)
        each.marks = {model: counts for model, counts in marks.items() if model in judged or not judged}
    return list(sets.values())


def dialogue_files(folder: Path) -> list[Path]:
    """List the files that :func:`read_dialogues` opens in a folder."""
    found = [*_judgment_files(folder), *_answer_files(folder)]
    return [*found, *(beside for file in found if (beside := settings_file(file)).is_file())]


def _holds_answers(path: Path) -> bool:
    """Return whether the first line of a file is an answer of FastChat's, which alone has ``choices``."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        try:
            return "choices" in json.loads(lines.readline())
        except (ValueError, TypeError, RecursionError):
            return False


def merged_sets(labelled: Sequence[Part]) -> list[JudgedSet]:
    """Merge sets of several sources by what they share.

    Args:
        labelled: Each set with the label of its source and what its models are called on the page.
    """
    groups: dict[SetKey, list[Part]] = defaultdict(list)
    for part in labelled:
        groups[part[1].key].append(part)
    return [_merged(key, parts) for key, parts in groups.items()]


def _judgment_files(folder: Path) -> list[Path]:
    return sorted((folder / JUDGMENTS).glob("**/*.jsonl"))


def _answer_files(folder: Path) -> list[Path]:
    return sorted((folder / ANSWERS).glob("**/*.jsonl"))


def _add_file(sets: dict[SetKey, JudgedSet], path: Path) -> None:
    settings = JudgmentSettings.read(path)
    found = decided(read_judgments([path]))
    found.missing += missing_in(settings, path)
    judges = {record.judge[0] for record in found.single} | {record.judge[0] for record in found.pairs}
    for name in sorted(judges or {settings.judge}):
        key = SetKey(settings.question_set or UNKNOWN_SET, name, settings.references)
        is_demo = name == JUDGE_NAME or settings.demo
        each = sets.setdefault(key, JudgedSet(key, is_demo))
        own = Judgments(
            [record for record in found.single if record.judge[0] == name],
            [record for record in found.pairs if record.judge[0] == name],
            found.notes,
            found.missing if name == (settings.judge or name) else [],
        )
        _extend(each, own)
        for model in dict.fromkeys(record.model for record in own.single):
            each.judged_in.setdefault(model, []).append(settings)
        if settings.recorded:
            each.settings[f"{path.parent.name}/{path.name}"] = settings


def _extend(each: JudgedSet, own: Judgments) -> None:
    each.judgments.single += own.single
    each.judgments.pairs += own.pairs
    each.judgments.notes += own.notes
    each.judgments.missing += own.missing
    each.served_by = sorted({*each.served_by, *_served_by([*own.single, *own.pairs])})


def _served_by(records: Iterable[JudgmentRecord | PairJudgmentRecord]) -> Iterable[str]:
    for record in records:
        replies = record.smaug.get("replies")
        for reply in replies if isinstance(replies, list) else []:
            name = reply.get("served_by") if isinstance(reply, dict) else None
            if isinstance(name, str):
                yield name


def _marks(path: Path) -> Mapping[str, int]:
    """Count how many turns of a file of answers bear each mark; FastChat's own files say nothing of them."""
    counts: Counter[str] = Counter()
    for record in read_answers([path]):
        marks = record.smaug.get("marks")
        turns = (NO_MARK for turns in record.choices for _ in turns)
        counts.update(map(str, marks) if isinstance(marks, list) else turns)
        thinking = record.smaug.get("thinking")
        counts[THINKING] += sum(map(bool, thinking)) if isinstance(thinking, list) else 0
    return +counts


def _merged(key: SetKey, parts: Sequence[Part]) -> JudgedSet:
    whole = JudgedSet(key, any(each.is_demo for _, each, _ in parts))
    for label, each, names in parts:
        _extend(whole, _renamed(each.judgments, names))
        whole.marks |= {names[model]: counts for model, counts in each.marks.items()}
        for model in set(each.judged_in) & set(names):
            whole.judged_in.setdefault(names[model], []).extend(each.judged_in[model])
        whole.settings |= {f"{label}/{name}" if len(parts) > 1 else name: own for name, own in each.settings.items()}
    return whole


def _renamed(judgments: Judgments, names: Mapping[str, str]) -> Judgments:
    return Judgments(
        [renamed(record, names) for record in judgments.single],
        [replace(record, model_1=names[record.model_1], model_2=names[record.model_2]) for record in judgments.pairs],
        list(judgments.notes),
        [{**each, "models": [names.get(m, m) for m in each.get("models") or []]} for each in judgments.missing],
    )
