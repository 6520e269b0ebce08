"""Describe what lies beside a file of answers or judgments: how it was made, and what of it is missing.

Each record is written and read by one class. Files of others, such as FastChat's, have none: readers then
find defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from smaug_eval.mt_bench.config import STRIP
from smaug_eval.mt_bench.files.layout import read_settings


@dataclass(frozen=True)
class AnswerSettings:
    """Hold what decides a model's answers.

    Attributes:
        model: Its name in the files.
        model_sha256: Of its checkpoint.
        question_set: What results on the questions may be called.
        questions_sha256: Of the questions.
        template: Name of the chat template.
        system_prompt: In the place of the template's own; None keeps that.
        seed: From which each turn's is derived.
        max_new_tokens: Longest answer.
        engine: What runs the model.
        dtype: Its precision.
        thinking: What becomes of blocks of thinking: ``strip`` or ``keep``.
        served: Of a model that a server runs, its name and address there and how it is asked; None for others.
    """

    model: str
    model_sha256: str
    question_set: str
    questions_sha256: str
    template: str
    system_prompt: str | None
    seed: int
    max_new_tokens: int
    engine: str
    dtype: str
    thinking: str = STRIP
    served: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what is recorded beside the answers; what came later only if it is not the default."""
        settings = asdict(self)
        if self.thinking == STRIP:
            del settings["thinking"]
        if self.served is None:
            del settings["served"]
        return settings

    @staticmethod
    def read(file: Path) -> RecordedAnswers:
        """Read what is recorded beside a file of answers.

        Raises:
            SmaugError: the record is not JSON.
        """
        recorded: Any = read_settings(file)
        recorded = recorded if isinstance(recorded, Mapping) else {}
        return RecordedAnswers(
            question_set=_text(recorded, "question_set"),
            questions_sha256=_text(recorded, "questions_sha256"),
            thinking=_text(recorded, "thinking"),
        )


@dataclass(frozen=True)
class RecordedAnswers:
    """Hold what judges and readers need of an :class:`AnswerSettings`; each is empty where nothing says so.

    Attributes:
        question_set: What results on the questions may be called.
        questions_sha256: Of the questions.
        thinking: What became of blocks of thinking.
    """

    question_set: str
    questions_sha256: str
    thinking: str


@dataclass(frozen=True)
class JudgmentSettings:
    """Say how judgments were made, beside their file.

    Attributes:
        judge: The judge's name; empty where nothing says so, as in the following.
        demo: Whether it is the demo's rule.
        base_url: Its endpoint; None where a function of the process judged.
        mode: ``single`` or one of the ways to compare pairs.
        baseline: The model that all are compared with.
        repeats: Judgments of each answer.
        question_set: What results on the questions may be called.
        official: Whether they are MT-Bench's.
        references: Which reference answers the judge saw.
        questions_sha256: Fingerprint of questions, references and judge prompts.
        planned: How many judgments there should be; None where nothing says so.
        not_judged: Turns without an answer.
        thinking: Model to number of its answers with blocks of thinking.
        others: Further settings of the judge that are not the default, and which are not the present ones.
        missing: Judgments that could not be had, with the reason; None where the judging has not ended.
        recorded: The whole record as it was read.
    """

    judge: str = ""
    demo: bool = False
    base_url: str | None = None
    mode: str = ""
    baseline: str | None = None
    repeats: int | None = None
    question_set: str = ""
    official: bool = False
    references: str = ""
    questions_sha256: str = ""
    planned: int | None = None
    not_judged: tuple[Any, ...] = ()
    thinking: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[Mapping[str, Any], ...] | None = None
    recorded: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        del own["recorded"]
        others, missing, thinking = own.pop("others"), own.pop("missing"), dict(own.pop("thinking"))
        return {
            **own,
            "not_judged": list(self.not_judged),
            **({"thinking": thinking} if thinking else {}),
            **others,
            **({} if missing is None else {"missing": list(missing)}),
        }

    @classmethod
    def read(cls, file: Path) -> JudgmentSettings:
        """Read what is recorded beside a file of judgments; defaults stand for what is not.

        Raises:
            SmaugError: the record is not JSON.
        """
        found: Any = read_settings(file)
        if not isinstance(found, Mapping):
            return cls()
        missing, base_url, baseline = (found.get(key) for key in ("missing", "base_url", "baseline"))
        thinking, not_judged = found.get("thinking"), found.get("not_judged")
        return cls(
            judge=_text(found, "judge"),
            demo=found.get("demo") is True,
            base_url=base_url if isinstance(base_url, str) else None,
            mode=_text(found, "mode"),
            baseline=baseline if isinstance(baseline, str) else None,
            repeats=_count(found, "repeats"),
            question_set=_text(found, "question_set"),
            official=found.get("official") is True,
            references=_text(found, "references"),
            questions_sha256=_text(found, "questions_sha256"),
            planned=_count(found, "planned"),
            not_judged=tuple(not_judged) if isinstance(not_judged, list) else (),
            thinking=thinking if isinstance(thinking, Mapping) else {},
            others={key: value for key, value in found.items() if key not in {each.name for each in fields(cls)}},
            missing=tuple(each for each in missing if isinstance(each, Mapping)) if isinstance(missing, list) else None,
            recorded=found,
        )


def _text(recorded: Mapping[str, Any], key: str) -> str:
    return str(recorded.get(key) or "")


def _count(recorded: Mapping[str, Any], key: str) -> int | None:
    value = recorded.get(key)
    return value if isinstance(value, int) else None
