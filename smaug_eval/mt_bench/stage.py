"""One ``mt_bench`` entry of a recipe, checked and ready: its models answer, a judge judges."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smaug_eval.console import Voice
from smaug_eval.engines import choose_engine
from smaug_eval.errors import SmaugError
from smaug_eval.evaluation import EnginePool
from smaug_eval.files import canonical_json, sha256_of_text, write_json
from smaug_eval.models import Checkpoint
from smaug_eval.mt_bench.answers import Answerer, AnswerSettings, answer_questions, check_prompts
from smaug_eval.mt_bench.budget import Budget, Prices, estimate
from smaug_eval.mt_bench.config import DEMO, MT_BENCH, SINGLE, JudgeConfig, MtBenchConfig
from smaug_eval.mt_bench.demo import JUDGE_NAME, demo_question_set
from smaug_eval.mt_bench.demo_server import demo_judge
from smaug_eval.mt_bench.endpoint import Endpoint, check_endpoint
from smaug_eval.mt_bench.judged import read_records, up_to_date
from smaug_eval.mt_bench.layout import judgments_file, read_settings, settings_file
from smaug_eval.mt_bench.plan import Plan, load_answers, make_plan, sides
from smaug_eval.mt_bench.questions import QuestionSet, load_question_set
from smaug_eval.mt_bench.templates import Template, load_template


def find_question_set(questions: str, references: str) -> QuestionSet:
    """A question set by its name or folder; MT-Bench is fetched where it is not there yet.

    Raises:
        SmaugError: it is not there, cannot be fetched, or is malformed.
    """
    from smaug_eval.mt_bench.fetch import fetch_mt_bench

    if questions == DEMO:
        return demo_question_set()
    folder = fetch_mt_bench(references) if questions == MT_BENCH else Path(questions).expanduser()
    return load_question_set(folder, references)


def dialogue_engine(requested: str) -> str:
    """Turn ``auto`` into ``vllm`` where a GPU and vLLM are there, else into ``torch``.

    Raises:
        SmaugError: vLLM was asked for by name and is not installed.
    """
    engine = choose_engine(requested)
    return "torch" if engine == "hf" else engine


class Answering:
    """How models answer a question set.

    Args:
        config: The recipe's entry.
        seed: Where the entry has none.
        dtype: Precision of the models.
        reporter: Shows progress.
        trust_remote_code: Whether Python code that came with the models may run.

    Raises:
        SmaugError: there is no such question set or engine.
    """

    def __init__(
        self, config: MtBenchConfig, *, seed: int, dtype: str, reporter: Voice, trust_remote_code: bool = False
    ) -> None:
        self._config, self._dtype, self._reporter = config, dtype, reporter
        self._trusted = trust_remote_code
        self._seed = seed if config.seed is None else config.seed
        self._engine = dialogue_engine(config.engine)
        self.questions = find_question_set(config.questions, config.references)

    @property
    def inputs(self) -> dict[str, Any]:
        """What decides the answers, the model apart."""
        config = self._config
        return {
            "questions": self._questions_sha256(),
            "chat_template": config.chat_template,
            "system_prompt": config.system_prompt,
            "max_new_tokens": config.max_new_tokens,
            "seed": self._seed,
            "engine": self._engine,
            "engine_args": dict(config.engine_args),
            "dtype": self._dtype,
        }

    def check(self, checkpoint: Path) -> None:
        """Try the chat template on every question.

        Raises:
            SmaugError: there is no such template, or it refuses a question or the system prompt.
        """
        template = self._template(checkpoint)
        check_prompts(template, self.questions.questions)

    def answer(self, folder: Path, model: str, checkpoint: Checkpoint, pool: EnginePool) -> dict[str, Any]:
        """Let one model answer what it has not answered yet.

        Args:
            folder: Receives ``<model>.jsonl``.
            model: Its name.
            checkpoint: Its weights.
            pool: Where it is loaded.

        Returns:
            Numbers for the stage's record.
        """
        config = self._config

        def load() -> Answerer:
            loaded = pool.get(
                self._engine,
                checkpoint.path,
                dtype=self._dtype,
                batch_size=config.batch_size,
                device=config.device,
                engine_args=config.engine_args,
                trust_remote_code=self._trusted,
            )
            lm: Any = loaded.watch.lm
            return Answerer(lm, lm.max_length)

        return answer_questions(
            load,
            self._template(checkpoint.path),
            self.questions.questions,
            AnswerSettings(
                model=model,
                model_sha256=checkpoint.sha256,
                question_set=self.questions.title,
                questions_sha256=self._questions_sha256(),
                template=config.chat_template,
                system_prompt=config.system_prompt,
                seed=self._seed,
                max_new_tokens=config.max_new_tokens,
                engine=self._engine,
                dtype=self._dtype,
            ),
            folder,
            report=self._reporter.update,
            notice=self._reporter.warn,
        )

    def _template(self, checkpoint: Path) -> Template:
        config = self._config
        return load_template(config.chat_template, checkpoint, config.system_prompt, trust_remote_code=self._trusted)

    def _questions_sha256(self) -> str:
        """Of what the models are asked; judge prompts and references do not matter to them."""
        asked = [[question.question_id, question.category, question.turns] for question in self.questions.questions]
        return sha256_of_text(canonical_json(asked))


@dataclass(frozen=True)
class Task:
    """What one file of judgments is about.

    Attributes:
        name: Of the stage: a model's, or ``<a>-vs-<b>``.
        models: Whose answers.
    """

    name: str
    models: tuple[str, ...]


class Judging:
    """How answers to a question set are judged.

    Args:
        config: The judge.
        questions: What was asked.
        reporter: Shows progress.

    Attributes:
        name: The judge's, in files.

    Raises:
        SmaugError: a limit to the cost without prices.
    """

    def __init__(self, config: JudgeConfig, questions: QuestionSet, reporter: Voice) -> None:
        self._config, self._questions, self._reporter = config, questions, reporter
        self.name = config.model or JUDGE_NAME
        prices = None
        if config.price_in is not None and config.price_out is not None:
            prices = Prices(config.price_in, config.price_out)
        self._budget = Budget(max_calls=config.max_calls, max_cost=config.max_cost, prices=prices)

    @property
    def inputs(self) -> dict[str, Any]:
        """What decides the judgments, the answers apart."""
        config = self._config
        return {
            "judge": self.name,
            "base_url": None if config.demo else config.base_url,
            "max_tokens": config.max_tokens,
            "repeats": config.repeats,
            "questions": self._questions.fingerprint,
        }

    def check(self) -> None:
        """Look at the judge's address and key, without asking it.

        Raises:
            SmaugError: one of them cannot be right.
        """
        if not self._config.demo:
            check_endpoint(self._endpoint(self._config.base_url))

    def tasks(self, models: Sequence[str]) -> list[Task]:
        """What there is to judge where these models answered.

        Raises:
            SmaugError: there is nothing to compare with.
        """
        compared = sides(models, self._config.mode, self._config.baseline)
        return [Task("-vs-".join(models), models) for models in compared]

    def file(self, folder: Path) -> Path:
        """The file of judgments in a folder."""
        return judgments_file(folder, self.name, pairs=self._config.mode != SINGLE)

    def plan(self, answers: Sequence[Path]) -> Plan:
        """Every judgment to make of some files of answers.

        Raises:
            SmaugError: a file is malformed, or a question was not answered.
        """
        config = self._config
        given = load_answers(answers)
        return make_plan(self._questions, given, config.mode, baseline=config.baseline, repeats=config.repeats)

    def forecast(self, plan: Plan, file: Path) -> str:
        """What is left to do of a plan, in words."""
        judged, _ = up_to_date(file, self.name, plan.matches)
        left = [match for match in plan.matches if match.key not in judged]
        prompts = [request.system + request.user for match in left for request in match.requests]
        lines = [estimate(prompts, self._config.max_tokens, self._budget.prices).describe()]
        if judged:
            lines.append(f"{len(judged)} of {len(plan.matches)} judgments are there already")
        if plan.not_judged:
            lines.append(f"{len(plan.not_judged)} turns have no answer and are not judged")
        return "; ".join(lines)

    def judge(self, answers: Sequence[Path], file: Path, superseded: Sequence[Path] = ()) -> dict[str, Any]:
        """Have answers judged that are not judged yet; what comes is in ``file`` at once.

        Args:
            answers: Files of answers.
            file: The judgments.
            superseded: Folders of the same judgments under other settings, the newest last: what this judge said there
                of the same answers need not be paid for again.

        Returns:
            Numbers for the stage's record, warnings, and a digest of what the judge said.

        Raises:
            SmaugError: see :func:`smaug_eval.mt_bench.judge.judge_matches`.
        """
        from smaug_eval.mt_bench.judge import judge_matches

        plan = self.plan(answers)
        settings = self._settings(plan)
        earlier = [folder / file.name for folder in superseded]
        known = [old for old in earlier if old.is_file() and _asked_there(old, settings["base_url"])]
        if known and not file.is_file():
            shutil.copyfile(known[-1], file)
        self._reporter.say(f"  {self.name}: {self.forecast(plan, file)}")
        write_json(settings_file(file), settings)
        with self._running() as endpoint:
            outcome = judge_matches(
                plan.matches,
                endpoint,
                self._budget,
                file,
                report=self._reporter.update,
                notice=self._reporter.warn,
            )
        write_json(settings_file(file), settings | {"missing": list(outcome.missing)})
        self._reporter.say(f"  {self.name}: {self._budget.describe()}")
        warnings = []
        if plan.not_judged:
            warnings.append(f"{len(plan.not_judged)} turns have no answer and were not judged")
        if outcome.missing:
            warnings.append(f"{len(outcome.missing)} judgments are missing: {outcome.missing[0]['reason']}")
        said = sorted(canonical_json(record.as_json() | {"tstamp": 0.0}) for record in read_records(file))
        return {
            "judgments": outcome.judged,
            "missing": len(outcome.missing),
            "warnings": warnings,
            "result": sha256_of_text(canonical_json(said)),
        }

    def _settings(self, plan: Plan) -> dict[str, Any]:
        config = self._config
        return {
            "judge": self.name,
            "demo": config.demo,
            "base_url": None if config.demo else config.base_url,
            "mode": config.mode,
            "baseline": config.baseline,
            "repeats": config.repeats,
            "question_set": self._questions.title,
            "official": self._questions.official,
            "references": self._questions.reference_name,
            "questions_sha256": self._questions.fingerprint,
            "planned": len(plan.matches),
            "not_judged": list(plan.not_judged),
        }

    @contextlib.contextmanager
    def _running(self) -> Iterator[Endpoint]:
        """The judge's endpoint; the demo's is served meanwhile."""
        if not self._config.demo:
            yield self._endpoint(self._config.base_url)
            return
        with demo_judge() as url:
            yield self._endpoint(url)

    def _endpoint(self, base_url: str) -> Endpoint:
        config = self._config
        return Endpoint(
            model=self.name,
            base_url=base_url,
            key_env=config.key_env,
            concurrency=config.concurrency,
            requests_per_minute=config.requests_per_minute,
            timeout=config.timeout,
            attempts=config.attempts,
            backoff=config.backoff,
            max_tokens=config.max_tokens,
        )


def _asked_there(judgments: Path, base_url: str | None) -> bool:
    """Whether the settings beside a file of judgments say that they come from an endpoint; damaged ones do not."""
    try:
        settings = read_settings(judgments)
    except SmaugError:
        return False
    return isinstance(settings, dict) and settings.get("base_url") == base_url
