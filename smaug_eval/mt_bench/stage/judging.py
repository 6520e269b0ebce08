"""Judge the answers of an ``mt_bench`` entry: find what there is to judge and what is left, and do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smaug_eval.common.console import Voice
from smaug_eval.common.errors import Incomplete, SmaugError
from smaug_eval.common.files import canonical_json, sha256_of_text, write_json
from smaug_eval.common.served.budget import estimate
from smaug_eval.common.served.limits import budget_of
from smaug_eval.common.settings import added_settings
from smaug_eval.mt_bench.config import KEEP, SINGLE, STRIP, JudgeConfig
from smaug_eval.mt_bench.files.layout import decisions_file, judgments_file, settings_file
from smaug_eval.mt_bench.files.questions import OUTPUT_FORMATS, QuestionSet, questions_hash
from smaug_eval.mt_bench.files.records import JudgmentRecord
from smaug_eval.mt_bench.files.settings import AnswerSettings, JudgmentSettings, RecordedAnswers
from smaug_eval.mt_bench.judge.judgments_file import Record, read_records, up_to_date, write_records
from smaug_eval.mt_bench.judge.plan import Answers, JudgingPlan, Key, load_answers, make_plan, sides
from smaug_eval.mt_bench.scores.stopped import stopped_of
from smaug_eval.mt_bench.stage.deciding import QuestionRounds, StopRule
from smaug_eval.mt_bench.stage.earlier import mark, refused_before, take_over, unmark
from smaug_eval.mt_bench.stage.judge import Judge

if TYPE_CHECKING:
    from smaug_eval.mt_bench.judge.judging import JudgingResult

_USED = {
    "single": ("single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn"),
    "pairwise": ("pair-v2", "pair-math-v1", "pair-v2-multi-turn", "pair-math-v1-multi-turn"),
}
_OF_ASKING = ("headers", "api_version", "stream", "longest_wait")
"""Keys of a judge that decide nothing of what it says."""


@dataclass(frozen=True)
class JudgingTask:
    """Describe what one file of judgments is about.

    Attributes:
        name: Of the stage: a model's, or ``<a>-vs-<b>``.
        models: Whose answers.
    """

    name: str
    models: tuple[str, ...]


class Judging:
    """Judge answers to a question set.

    Args:
        config: The judge.
        questions: What was asked.
        reporter: Shows progress.
        thinking: What becomes of blocks of thinking in answers; None for what was done where they were made.
        function: Judges in the place of an endpoint: takes the system message and the user's, returns the judgment.

    Attributes:
        name: The judge's, in files.

    Raises:
        SmaugError: a limit to the cost without prices, an address that is none, or judge prompts that ask for a form
            of verdict that nothing reads.
    """

    def __init__(
        self,
        config: JudgeConfig,
        questions: QuestionSet,
        reporter: Voice,
        thinking: str | None = None,
        function: Callable[[str, str], str] | None = None,
    ) -> None:
        self._config, self._questions, self._reporter, self._thinking = config, questions, reporter, thinking
        self._budget = budget_of(config)
        self._judge = Judge(config, function)
        self.name = self._judge.name
        self._check_forms()

    @property
    def inputs(self) -> dict[str, Any]:
        """Return what decides the judgments, the answers apart."""
        config = self._config
        return {
            "judge": self.name,
            "base_url": self._judge.base_url,
            "max_tokens": config.max_tokens,
            "repeats": config.repeats,
            "questions": self._questions.fingerprint,
            **added_settings(config, _OF_ASKING),
            **({} if self._thinking in (None, STRIP) else {"thinking": self._thinking}),
        }

    def _check_forms(self) -> None:
        """Make sure that verdicts are read in the form that the judge prompts ask for."""
        kind = "single" if self._config.mode == SINGLE else "pairwise"
        for prompt in self._questions.judge_prompts.values():
            other = prompt.type == kind and prompt.output_format not in ("", OUTPUT_FORMATS[kind])
            if other and self._config.verdict is None and prompt.name in _USED[kind]:
                raise SmaugError(
                    f"judge prompt {prompt.name!r} asks for {prompt.output_format!r}, not {OUTPUT_FORMATS[kind]}",
                    fix="say how that is read (--set-judge verdict=json, or a regular expression)",
                )

    def check(self) -> None:
        """Look at the judge's address and key, without asking it.

        Raises:
            SmaugError: one of them cannot be right.
        """
        self._judge.check()

    def tasks(self, models: Sequence[str]) -> list[JudgingTask]:
        """List what there is to judge where these models answered.

        Raises:
            SmaugError: there is nothing to compare with.
        """
        compared = sides(models, self._config.mode, self._config.baseline)
        return [JudgingTask("-vs-".join(models), models) for models in compared]

    def file(self, folder: Path) -> Path:
        """Return the file of judgments in a folder."""
        return judgments_file(folder, self.name, pairs=self._config.mode != SINGLE)

    def plan(self, answers: Sequence[Path]) -> JudgingPlan:
        """Plan every judgment to make of some files of answers.

        Raises:
            SmaugError: a file is malformed, or a question was not answered.
        """
        config = self._config
        given = load_answers(answers)
        settings = {file.stem: AnswerSettings.read(file) for file in answers}
        for file in answers:
            self._check_questions(file, settings[file.stem], given)
        kept = self._thinking or (KEEP if any(each.thinking == KEEP for each in settings.values()) else STRIP)
        return make_plan(
            self._questions,
            given,
            config.mode,
            baseline=config.baseline,
            repeats=config.repeats,
            keep_thinking=kept == KEEP,
        )

    def _check_questions(self, file: Path, settings: RecordedAnswers, given: Answers) -> None:
        """Refuse answers to other questions under the same numbers."""
        recorded = settings.questions_sha256
        if not recorded:
            return
        whole = self._questions.whole or self._questions.questions
        records = given[file.stem].values()
        turns = max(len(record.turns) for record in records)
        first = [replace(question, turns=question.turns[:turns]) for question in whole[: len(records)]]
        if recorded not in {questions_hash(each) for each in (whole, self._questions.questions, first)}:
            raise SmaugError(
                f"{file} answers another question set: {settings.question_set or 'one'!r}, not "
                f"{self._questions.title!r}",
                fix="give the questions that were answered (--mt-bench-dir), or answer these",
            )

    def forecast(self, plan: JudgingPlan, file: Path) -> str:
        """Say what is left to do of a plan."""
        judged, _ = up_to_date(file, self.name, plan.matches, self._config.verdict)
        left = [match for match in plan.matches if match.key not in judged]
        prompts = [request.system + request.user for match in left for request in match.requests]
        lines = [estimate(prompts, self._config.max_tokens, self._budget.prices).describe()]
        if judged:
            lines.append(f"{len(judged)} of {len(plan.matches)} judgments exist already")
        if plan.not_judged:
            lines.append(f"{len(plan.not_judged)} turns have no answer and are not judged")
        return "; ".join(lines)

    def judge(self, answers: Sequence[Path], file: Path, superseded: Sequence[Path] = ()) -> dict[str, Any]:
        """Judge the answers that are not judged yet; every judgment is written to ``file`` at once.

        Args:
            answers: Files of answers.
            file: The judgments.
            superseded: Folders of the same judgments under other settings, the newest last: what this judge said there
                of the same answers need not be paid for again.

        Returns:
            Numbers for the stage's record, warnings, and a digest of what the judge said.

        Raises:
            Incomplete: more judgments are missing than may be; the settings beside ``file`` say which, and the same
                call asks for these alone. See :func:`smaug_eval.mt_bench.judge.judging.judge_matches`.
            SmaugError: a file of answers is malformed, or a file cannot be written.
        """
        plan = self.plan(answers)
        settings, failed = self._begun(plan, file, superseded)
        outcome, stopped = self._asked(plan, file, failed)
        decisions_file(file).unlink(missing_ok=True)  # of a judging that stopped before
        return self._ended(plan, file, settings, outcome, stopped)

    def judge_until_decided(
        self, answers: Sequence[Path], file: Path, rule: StopRule, superseded: Sequence[Path] = ()
    ) -> dict[str, Any]:
        """Judge the answers round by round until each model's difference from one of them is decided.

        Judgments of a model whose judging left questions out say so. :meth:`judge` on the same file asks for the rest.

        Args:
            answers: Files of answers, of single answers that are rated.
            file: As of :meth:`judge`, like ``superseded``.
            rule: When to stop.
            superseded: As there.

        Returns:
            As :meth:`judge`, and ``decisions``, a line for each model.

        Raises:
            Incomplete: as :meth:`judge`.
            SmaugError: as there, or there is nothing to compare with.
        """
        plan = self.plan(answers)
        models = {match.models[0] for match in plan.matches}
        if self._config.mode != SINGLE or rule.against not in models or len(models) < 2:
            raise SmaugError(
                f"stop: nothing to compare with {rule.against!r}: the answers are of {', '.join(sorted(models))}",
                fix="give the answers of two models or more, and name one of them with against; mode is single",
            )
        settings, failed = self._begun(plan, file, superseded, most="at most ")
        rounds = QuestionRounds(plan.matches, rule)
        part, outcome, stopped = replace(plan, matches=()), None, None
        while rounds.is_open and stopped is None:
            part = replace(plan, matches=tuple(rounds.next_round()))
            outcome, stopped = self._asked(part, file, failed)
            if stopped is None:
                for line in rounds.look(self._records(file)):
                    self._reporter.say(f"  {line}")
        part = replace(plan, matches=tuple(rounds.asked())) if stopped is None else part
        if outcome is None or (stopped is None and outcome.judged + len(outcome.missing) < len(part.matches)):
            outcome, stopped = self._asked(part, file, failed)
        records = self._records(file)
        found = rounds.stopped(records)
        early = {model: each for model, each in found.items() if stopped is None and each.n < each.of}
        mark(file, early)
        lines = [f"{model}: {each.decided_words}" for model, each in found.items()]
        decided = rounds.as_json(found)
        write_json(decisions_file(file), decided)
        settings = replace(settings, planned=len(part.matches), others={**settings.others, "stop": decided})
        return {**self._ended(part, file, settings, outcome, stopped), "decisions": lines}

    def part_of(self, whole: Path, models: Sequence[str], file: Path) -> dict[str, Any]:
        """Write some models' judgments of a file that several share into one of their own; nothing is asked.

        Args:
            whole: What :meth:`judge_until_decided` wrote.
            models: Whose judgments.
            file: Receives them.
        """
        own = [each for each in read_records(whole) if isinstance(each, JudgmentRecord) and each.model in models]
        write_records(file, own)
        settings = JudgmentSettings.read(whole)
        missing = [each for each in settings.missing or () if set(each.get("models") or ()) <= set(models)]
        kept = replace(settings, planned=len(own) + len(missing), missing=tuple(missing))
        write_json(settings_file(file), kept.as_json())
        stopped = stopped_of(own)
        return {
            "judgments": len(own),
            "missing": len(missing),
            "warnings": [],
            "notes": [] if stopped is None else [stopped.words],
            "result": _digest(own),
        }

    def _begun(
        self, plan: JudgingPlan, file: Path, superseded: Sequence[Path], *, most: str = ""
    ) -> tuple[JudgmentSettings, set[Key]]:
        """Take over what is known of a plan and say what is to do; returns settings, and what was refused before."""
        settings = self._settings(plan)
        take_over(file, superseded, settings.base_url)
        unmark(file)
        failed = refused_before(file, plan)
        self._reporter.say(f"  {self.name}: {most}{self.forecast(plan, file)}")
        write_json(settings_file(file), settings.as_json())
        return settings, failed

    def _records(self, file: Path) -> list[JudgmentRecord]:
        """This judge's judgments of single answers."""
        every = read_records(file)
        return [each for each in every if isinstance(each, JudgmentRecord) and each.judge[0] == self.name]

    def _ended(
        self,
        plan: JudgingPlan,
        file: Path,
        settings: JudgmentSettings,
        outcome: JudgingResult,
        stopped: Incomplete | None,
    ) -> dict[str, Any]:
        """Write the settings, and return what is recorded of a judging, unless too much is missing."""
        write_json(settings_file(file), replace(settings, missing=outcome.missing).as_json())
        self._reporter.say(f"  {self.name}: {self._budget.describe()}")
        missing, allowed = len(outcome.missing), self._config.allow_missing
        if missing > allowed * len(plan.matches):
            raise self._incomplete(outcome, stopped, len(plan.matches))
        return {
            "judgments": outcome.judged,
            "missing": missing,
            **({"allow_missing": allowed} if missing else {}),
            "warnings": list(self._warnings(plan, outcome)),
            "result": _digest(read_records(file)),
        }

    def _asked(self, plan: JudgingPlan, file: Path, failed: set[Key]) -> tuple[JudgingResult, Incomplete | None]:
        """Ask for what is missing; what came of it, and what stopped it."""
        from smaug_eval.mt_bench.judge.judging import JudgingResult, judge_matches  # with openai

        try:
            with self._judge.running() as endpoint:
                outcome = judge_matches(
                    plan.matches,
                    endpoint,
                    self._budget,
                    file,
                    report=self._reporter.update,
                    notice=self._reporter.warn,
                    verdict=self._config.verdict,
                    last=failed,
                )
        except Incomplete as error:
            if not isinstance(error.result, JudgingResult):
                raise
            return error.result, error
        return outcome, None

    def _incomplete(self, outcome: JudgingResult, stopped: Incomplete | None, total: int) -> Incomplete:
        """Return the error that says how many judgments are missing, and why."""
        from smaug_eval.mt_bench.judge.judging import JudgmentsMissing  # with openai

        counted = f"{len(outcome.missing)} of {total} judgments"
        allowed = f" (allow_missing {self._config.allow_missing:g})" if self._config.allow_missing else ""
        if stopped is None:
            return JudgmentsMissing(f"{counted} are missing{allowed}: {outcome.reasons}", fix=outcome.fix)
        if counted in stopped.message:
            return stopped
        error = type(stopped)(f"{stopped.message}; {counted} are missing{allowed}", fix=stopped.fix)
        error.result = outcome
        return error

    def _warnings(self, plan: JudgingPlan, outcome: JudgingResult) -> Iterator[str]:
        if plan.not_judged:
            yield f"{len(plan.not_judged)} turns have no answer and were not judged"
        if outcome.missing:
            yield (
                f"{len(outcome.missing)} judgments are missing, which allow_missing "
                f"{self._config.allow_missing:g} accepts: {outcome.reasons}"
            )
        yield from self._questions.notes

    def _settings(self, plan: JudgingPlan) -> JudgmentSettings:
        config = self._config
        return JudgmentSettings(
            judge=self.name,
            demo=config.demo,
            base_url=self._judge.base_url,
            mode=config.mode,
            baseline=config.baseline,
            repeats=config.repeats,
            question_set=self._questions.title,
            official=self._questions.official,
            references=self._questions.reference_name,
            questions_sha256=self._questions.fingerprint,
            planned=len(plan.matches),
            not_judged=tuple(plan.not_judged),
            thinking=plan.thinking,
            others=added_settings(config, ("headers", "longest_wait")),
        )


def _digest(records: Sequence[Record]) -> str:
    """A digest of what the judge said."""
    return sha256_of_text(canonical_json(sorted(canonical_json(each.as_json() | {"tstamp": 0.0}) for each in records)))
